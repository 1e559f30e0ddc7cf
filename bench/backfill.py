"""``driftline features backfill`` at growing sizes: events per second, and peak memory, which must not grow.

Each size runs in a separate process over synthetic departures in the repository of the flights: one view with
two windows, 10,000 airports, four source partitions.
"""

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import report

SIZES = (100_000, 1_000_000)
AIRPORTS = 10_000
PARTITIONS = 4
START_MS = 1_372_680_000_000
STEP_MS = 3_000
BATCH = 40_000
VIEW = "origin_departures"


def main() -> None:
    """Measure each size."""
    rates, peaks = {}, {}
    for size in SIZES:
        with tempfile.TemporaryDirectory() as home:
            make_archive(Path(home), size)
            command = [sys.executable, "-m", "bench.backfill", home]
            result = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        rates[f"{size:,} events"] = size / result["seconds"]
        peaks[size] = result["peak_mb"]
    notes = "; ".join(f"{size:,} events: peak {peak:,.0f} MB" for size, peak in peaks.items())
    report.write("backfill", rates, {}, "events/s", notes)


def make_archive(home: Path, size: int) -> None:
    """Write departures into an archive, as the archive process does."""
    import pyarrow as pa
    from deltalake import write_deltalake

    from services.archive import row_schemas
    from services.feature_store import repository
    from services.monitoring import inference_log
    from services.runtime.settings import Settings

    settings = Settings(home=home)
    repository.apply(settings)
    rng = random.Random(1)
    for start in range(0, size, BATCH):
        numbers = range(start, min(size, start + BATCH))
        columns = [
            ["flights.departed" for _ in numbers],
            [number % PARTITIONS for number in numbers],
            [number // PARTITIONS for number in numbers],
            [0 for _ in numbers],
            [None for _ in numbers],
            [departure(number, rng) for number in numbers],
            [None for _ in numbers],
        ]
        arrays = [pa.array(c, f.type) for c, f in zip(columns, row_schemas.EVENTS.schema, strict=True)]
        batch = pa.Table.from_arrays(arrays, schema=row_schemas.EVENTS.schema)
        uri = inference_log.path(settings, inference_log.EVENTS)
        write_deltalake(uri, batch, mode="append", partition_by=[row_schemas.EVENTS.partition_by])


def departure(number: int, rng: random.Random) -> bytes:
    """Return one event, three seconds after the previous one."""
    seconds = (START_MS + number * STEP_MS) // 1000
    event = {
        "flight_id": f"f{number}",
        "event_time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)),
        "flight": f"UA{number % 900}",
        "carrier": "UA",
        "origin": f"o{rng.randrange(AIRPORTS)}",
        "dest": "LAX",
        "dep_delay": rng.gauss(10, 30),
    }
    return json.dumps(event).encode()


def backfill(home: Path) -> None:
    """Run one backfill; print the seconds and the peak memory of the process."""
    from services.feature_store import repository
    from services.features.offline import backfill as offline
    from services.runtime.settings import Settings

    settings = Settings(home=home)
    started = time.perf_counter()
    offline.run(settings, repository.load(settings), lambda *_: None, views=[VIEW])
    seconds = time.perf_counter() - started
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mb": peak_mb}))


if __name__ == "__main__":
    backfill(Path(sys.argv[1]))
