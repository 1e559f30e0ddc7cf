"""Memory and rate of the scoring process over ten million requests: both should stay constant.

The requests are written before the process starts, so that it shares the machine only with the broker and the
store. They are the same requests repeated, because creating ten million different ones takes longer than all
the rest. Takes some five minutes and about 8 GB of disk, hence it runs only if it is named. Memory counts
from 100,000 requests on: before, buffers grow to the size of what is in flight.
"""

import shutil
import sys
import tempfile
import time

from bench import processes, report
from bench.report import Figures
from bench.scoring_job import installation, prediction_times
from bench.scoring_job.installation import REQUESTS
from bench.scoring_job.running import COMMAND, SINK
from services.runtime.settings import Settings

EVENTS_AT_ONCE = 200_000
MARKS = (100_000, 1_000_000, 10_000_000)
DISK_BYTES_MIN = 12 << 30
SECONDS_MAX = 600.0


def main() -> None:
    """Measure and report."""
    if shutil.disk_usage(tempfile.gettempdir()).free < DISK_BYTES_MIN:
        sys.exit(f"bench: soak needs {DISK_BYTES_MIN >> 30} GiB of free disk in {tempfile.gettempdir()}")
    with installation.installed([SINK]) as (settings, _):
        batches = installation.requests(EVENTS_AT_ONCE, first=0)
        for _ in range(MARKS[-1] // EVENTS_AT_ONCE):
            installation.send(settings, REQUESTS, batches)
        del batches
        print(f"{MARKS[-1]:,} requests were written", flush=True)
        measures = _measure(settings)
    first, last = (measures[f"{mark:,} events"]["driftline"] for mark in (MARKS[0], MARKS[-1]))
    growth_mb = last["rss_mb"] - first["rss_mb"]
    notes = f"memory at each mark and rate since the previous one; memory grew by {growth_mb:,.0f} MB"
    report.write_measures("soak", measures, {}, notes)


def _measure(settings: Settings) -> dict[str, dict[str, Figures]]:
    """Return for each mark the resident memory and the rate since the previous mark."""
    import psutil

    measures: dict[str, dict[str, Figures]] = {}
    with processes.running(COMMAND, settings.home / "scoring.log") as process:
        memory = psutil.Process(process.pid).memory_info
        done, at = 0, 0.0
        for mark in MARKS:
            before, began = done, at
            done, at = _reach(settings, mark, since=done)
            # Rates count from the first mark on, so that the start does not count.
            figures = {"rss_mb": memory().rss / 1e6}
            if before:
                figures["events_per_second"] = (done - before) / (at - began)
            measures[f"{mark:,} events"] = {"driftline": figures}
            print(f"{done:,} events: {figures}", flush=True)
    return measures


def _reach(settings: Settings, mark: int, *, since: int) -> tuple[int, float]:
    """Wait for ``mark`` predictions; return their number and the time in seconds."""
    deadline = time.monotonic() + SECONDS_MAX
    done = since
    while done < mark:
        if time.monotonic() > deadline:
            sys.exit(f"bench: scoring made {done:,} of {mark:,} predictions")
        time.sleep(0.1)
        done = prediction_times.count(settings, SINK)
    return done, time.monotonic()


if __name__ == "__main__":
    main()
