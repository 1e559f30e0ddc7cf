"""Predictions that wait for labels: memory, disk and restart of drift's join with 50 million of them.

The store on disk is compared with what keeps all of them in memory, at a size that memory can hold, by bytes
for each prediction. Restart: from the start of a process to the first answer for a label, without Kafka.
``PENDING_ROWS`` changes the number.
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from bench import report
from services.monitoring import pending_predictions
from services.monitoring.pending_disk import PendingDisk
from services.monitoring.pending_predictions import JoinedLabel, PendingPrediction, PendingPredictions

ROWS = int(os.environ.get("PENDING_ROWS", "50_000_000"))
IN_MEMORY_ROWS = 1_000_000
BATCH = 100_000
LOOKUPS = 20_000
MIB = 1 << 20


def main() -> None:
    """Measure and report."""
    folder = Path(tempfile.mkdtemp(prefix="driftline-pending-"))
    try:
        filled = _child("fill", folder)
        restarted = _child("restart", folder)
        memory = _child("memory", folder)
    finally:
        shutil.rmtree(folder)
    filled["disk_bytes_per_row"] = filled["disk_mib"] * MIB / ROWS
    ratios = {
        "memory_per_row_over_with_disk": (memory["resident_mib"] / IN_MEMORY_ROWS)
        / (filled["resident_mib"] / ROWS),
        "bound_1_gib_over_memory": 1024 / filled["resident_mib"],
        "bound_60_s_over_restart": 60 / restarted["seconds"],
    }
    on_disk = {"fill": filled, "restart": restarted}
    measures = {f"{ROWS:,} on disk": on_disk, "in memory": {"1,000,000": memory}}
    report.write_measures("pending", measures, ratios, "predictions that wait for labels")
    for name, figures in (("fill", filled), ("restart", restarted), ("memory", memory)):
        print(name, {key: round(value, 2) for key, value in figures.items()})


def _child(name: str, folder: Path) -> dict[str, float]:
    """Measure in a process of its own, whose memory holds nothing else."""
    command = [sys.executable, "-c", f"from bench import pending; pending.PARTS[{name!r}]({str(folder)!r})"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return {key: float(value) for key, value in (line.split() for line in done.stdout.splitlines())}


def _entries(count: int) -> Iterator[PendingPrediction]:
    chance = random.Random(1)
    for number in range(count):
        score = chance.random()
        yield PendingPrediction(
            f"{number * 2654435761 % 2**32:08x}-{number:012d}", number, number, 3, "champion", score, 1.0, {}
        )


def _base_mib() -> float:
    return float(psutil.Process().memory_info().rss) / MIB


def _fill(folder: str) -> None:
    base_mib, began, peak_mib = _base_mib(), time.monotonic(), 0.0
    pending = PendingPredictions(disk=PendingDisk(Path(folder) / "model", "bench", 0))
    for number, entry in enumerate(_entries(ROWS), 1):
        pending.append(entry)
        if number % BATCH == 0:
            pending.settle()
            peak_mib = max(peak_mib, _base_mib())
    _, generation = pending.settle()
    seconds = time.monotonic() - began
    size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    (Path(folder) / "generation").write_text(str(generation))
    print("rows_per_s", ROWS / seconds)
    print("resident_mib", max(peak_mib, _base_mib()))
    print("imports_mib", base_mib)
    print("disk_mib", size / MIB)


def _restart(folder: str) -> None:
    created = psutil.Process().create_time()
    generation = int((Path(folder) / "generation").read_text())
    pending = PendingPredictions(disk=PendingDisk(Path(folder) / "model", "bench", generation))
    first = next(_entries(1)).prediction_id
    assert pending.get(first) is not None
    seconds = time.time() - created
    waiting = ROWS - pending_predictions.IN_MEMORY_MAX
    chance = random.Random(2)
    numbers = [chance.randrange(waiting) for _ in range(LOOKUPS)]
    began = time.monotonic()
    for number in numbers:
        entry = pending.get(f"{number * 2654435761 % 2**32:08x}-{number:012d}")
        assert entry is not None
        pending.note_label(entry, 1.0, JoinedLabel(1))
    labels_per_s = LOOKUPS / (time.monotonic() - began)
    print("seconds", seconds)
    print("labels_per_s", labels_per_s)
    print("resident_mib", _base_mib())


def _memory(_folder: str) -> None:
    pending = PendingPredictions()
    for entry in _entries(IN_MEMORY_ROWS):
        pending.append(entry)
    print("resident_mib", _base_mib())


PARTS: dict[str, Callable[[str], None]] = {"fill": _fill, "restart": _restart, "memory": _memory}
"""What runs in a process of its own, by name."""


if __name__ == "__main__":
    main()
