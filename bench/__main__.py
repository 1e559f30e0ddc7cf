"""``python -m bench [NAME]``: run one part or all; each prints a table and writes ``.bench/NAME.json``."""

import importlib
import sys

PARTS = ("scoring", "latency", "swap", "rest", "workers", "features", "backfill", "drift")
PARTS_BY_NAME = (
    "soak",
    "fleet",
    "drift_core",
    "shutdown",
    "pending",
    "pending_process",
    "monitoring",
    "rollout",
    "gates",
)
"""Parts that take many minutes; they run only when they are named."""


def main() -> None:
    """Run the requested parts."""
    known = PARTS + PARTS_BY_NAME
    chosen = sys.argv[1:] or PARTS
    unknown = [name for name in chosen if name not in known]
    if unknown:
        sys.exit(f"bench: no part {', '.join(unknown)}; known parts: {', '.join(known)}")
    for name in chosen:
        importlib.import_module(f"bench.{name}").main()


if __name__ == "__main__":
    main()
