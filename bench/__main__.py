"""``python -m bench [NAME]``: run one part or all; each prints a table and writes ``.bench/NAME.json``."""

import importlib
import sys

PARTS = ("scoring", "latency", "features", "backfill")


def main() -> None:
    """Run the parts that are asked for."""
    chosen = sys.argv[1:] or PARTS
    unknown = [name for name in chosen if name not in PARTS]
    if unknown:
        sys.exit(f"bench: no part {', '.join(unknown)}; known are {', '.join(PARTS)}")
    for name in chosen:
        importlib.import_module(f"bench.{name}").main()


if __name__ == "__main__":
    main()
