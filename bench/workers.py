"""How the rate grows with processes: one, two and four of them share the partitions of the requests.

All have their partitions before the first request is written. The embedded broker, the store and the
writer run on the same cores, so more processes than cores only share them.
"""

import contextlib
from collections.abc import Iterator

from bench import processes, report
from bench.scoring_job import installation, running
from bench.scoring_job.installation import PARTITIONS
from services.operations.local_servers import ports
from services.runtime.settings import Settings

WORKERS = (1, 2, 4)
EVENTS, ROUNDS = 100_000, 2


def main() -> None:
    """Measure and report."""
    rates: dict[str, float] = {}
    with installation.installed([running.SINK]) as (settings, _):
        turns = [workers for _ in range(ROUNDS) for workers in WORKERS]
        for turn, workers in enumerate(turns):
            with _running(settings, workers):
                rate = running.drain(settings, EVENTS, first=turn * EVENTS)
            name = f"{workers} process" + "es" * (workers > 1)
            rates[name] = max(rate, rates.get(name, 0.0))
            print(f"{name}: {rate:,.0f} events/s", flush=True)
    report.write("workers", rates, {}, "events/s", f"one consumer group, {PARTITIONS} partitions")


@contextlib.contextmanager
def _running(settings: Settings, workers: int) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        numbered = [settings.model_copy(update={"scoring_port": ports.free_port()}) for _ in range(workers)]
        for own in numbered:
            command = ["env", f"DRIFTLINE_SCORING_PORT={own.scoring_port}", *running.COMMAND]
            stack.enter_context(processes.running(command, settings.home / f"scoring-{own.scoring_port}.log"))
        for own in numbered:
            running.wait_ready(own)
        yield


if __name__ == "__main__":
    main()
