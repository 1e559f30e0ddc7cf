"""The drift process with millions of predictions that wait for labels: memory, and seconds of a restart.

A million predictions come through Kafka. The others are added to the state of the stopped process by the code
with which the process writes it, because the embedded broker is slower than the disk. Then the process is
started, ended with SIGKILL, and started again. A start is over when the first label is joined.
``PENDING_ROWS`` and ``PENDING_KAFKA_ROWS`` change the numbers.
"""

import contextlib
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from kafka import TopicPartition

from bench import processes, report
from bench.report import Figures
from bench.scoring_job.installation import JOB, MODEL, PARTITIONS, send
from services.drift.drift_state import DriftState
from services.drift.monitored_model import SNAPSHOTS
from services.monitoring import pending_restore
from services.monitoring.pending_disk import PendingDisk
from services.monitoring.pending_predictions import PendingPrediction, PendingPredictions
from services.operations.local_servers import ports
from services.operations.local_servers.cluster import Embedded
from services.runtime import declaration_file, kafka_consumers, topic_creation
from services.runtime.kafka_outbox import Outbox
from services.runtime.large_records import LargeRecordWriter
from services.runtime.settings import Settings
from streams import codec, records, topics

if TYPE_CHECKING:
    from streams.producer import Record

ROWS = int(os.environ.get("PENDING_ROWS", "10_000_000"))
KAFKA_ROWS = int(os.environ.get("PENDING_KAFKA_ROWS", "1_000_000"))
BATCH = 100_000
LABELS = 1000
LABEL_TOPIC = "bench.labels"
HOUR_MS = 3_600_000
SECONDS_MAX = 900.0
MIB = 1 << 20
COMMAND = [sys.executable, "-m", "services.operations.cli", "drift"]


def main() -> None:
    """Measure and report."""
    begin_ms = codec.now_ms() - 3 * HOUR_MS
    with _installed() as settings:
        _write(settings, begin_ms)
        with _drift(settings) as process:
            began = time.monotonic()
            _wait(lambda: _pending(settings) >= KAFKA_ROWS, "all predictions wait")
            through_kafka = {"rows_per_s": KAFKA_ROWS / (time.monotonic() - began), "rss_mib": _rss(process)}
        print("through Kafka", through_kafka, flush=True)
        filled = _grow(settings, begin_ms + HOUR_MS)
        print("filled", filled, flush=True)
        started = _start(settings, begin_ms, 0)
        print("start", started, flush=True)
        again = _start(settings, begin_ms, 1)
        print("start after SIGKILL", again, flush=True)
    measures: dict[str, dict[str, Figures]] = {
        f"{KAFKA_ROWS:,} through Kafka": {"drift": through_kafka},
        f"{ROWS:,} waiting": {"written": filled, "start": started, "start after SIGKILL": again},
    }
    ratios = {
        "bound_1_gib_over_memory": 1024 / again["rss_mib"],
        "bound_60_s_over_restart": 60 / again["seconds_to_first_label"],
    }
    report.write_measures("pending_process", measures, ratios, "the drift process with waiting predictions")


@contextlib.contextmanager
def _installed() -> Iterator[Settings]:
    with tempfile.TemporaryDirectory(prefix="driftline-bench-") as folder:
        base = Settings(home=Path(folder), models=JOB / "models", drift_port=ports.free_port())
        with Embedded(base) as servers:
            settings = servers.settings
            os.environ |= settings.environment()
            topic_creation.ensure_topics(settings, declaration_file.load_all(settings.models), views=[])
            yield settings


def _id(number: int) -> str:
    return f"{number * 2654435761 % 2**32:08x}-{number:012d}"


def _write(settings: Settings, begin_ms: int) -> None:
    """Write predictions of one hour, then heartbeats at its end."""
    chance = random.Random(1)
    for first in range(0, KAFKA_ROWS, BATCH):
        batches: dict[int, list[Record]] = {number: [] for number in range(PARTITIONS)}
        for number in range(first, min(first + BATCH, KAFKA_ROWS)):
            prediction = records.Prediction(
                prediction_id=_id(number),
                model=MODEL,
                version=1,
                arm="champion",
                arm_weight=10_000,
                event_time_ms=begin_ms + number * HOUR_MS // KAFKA_ROWS,
                scored_time_ms=begin_ms + number * HOUR_MS // KAFKA_ROWS,
                source_partition=number % PARTITIONS,
                source_offset=number // PARTITIONS,
                features=[chance.random() for _ in range(10)],
                features_lag_ms=0,
                score=chance.random(),
                prediction=True,
            )
            key = prediction.prediction_id.encode()
            batches[number % PARTITIONS].append((key, records.encode(prediction), []))
        send(settings, topics.predictions(MODEL), batches)
    _beat(settings, begin_ms + HOUR_MS)


def _beat(settings: Settings, time_ms: int) -> None:
    for topic in (topics.predictions(MODEL), LABEL_TOPIC):
        send(
            settings,
            topic,
            {number: [(None, None, codec.heartbeat(time_ms))] for number in range(PARTITIONS)},
        )


def _grow(settings: Settings, at_ms: int) -> Figures:
    """Add predictions to the state of the process, which does not run."""
    began = time.monotonic()
    state = _snapshot(settings)
    folder = pending_restore.folder_of(settings, "drift", MODEL)
    disk = PendingDisk(folder, state.on_disk.store, state.on_disk.generation)
    pending = PendingPredictions(state.pending, disk)
    chance = random.Random(2)
    for number in range(KAFKA_ROWS, ROWS):
        score = chance.random()
        pending.append(PendingPrediction(_id(number), at_ms, at_ms, 1, "champion", score, 1.0, {}))
        if number % BATCH == 0:
            pending.settle()
    state.pending, state.on_disk.generation = pending.settle()
    pending.close()
    outbox = Outbox("drift", settings.kafka_options(), threading.Event())
    writer = LargeRecordWriter(lambda batch: outbox.write({(topics.DRIFT_STATE.name, 0): batch}))
    writer.put(MODEL.encode(), SNAPSHOTS.encode(MODEL, LABEL_TOPIC, state))
    outbox.close()
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    seconds = time.monotonic() - began
    return {"rows_per_s": (ROWS - KAFKA_ROWS) / seconds, "disk_mib": size / MIB}


def _snapshot(settings: Settings) -> DriftState:
    with contextlib.closing(kafka_consumers.connect(settings, "bench-state")) as consumer:
        key, partition = MODEL.encode(), TopicPartition(topics.DRIFT_STATE.name, 0)
        found = kafka_consumers.latest_values(consumer, partition, [key])
    return SNAPSHOTS.decode(found[key][1], MODEL)


def _start(settings: Settings, begin_ms: int, turn: int) -> Figures:
    """Start the process, let it join labels, and end it with SIGKILL."""
    joined_before = _outcomes(settings)
    # Labels of every part of what waits; of others than in the turn before.
    numbers = [(2 * label + turn) * (ROWS // (2 * LABELS)) for label in range(LABELS)]
    at_ms = begin_ms + HOUR_MS + 1000 * (turn + 1)
    value = b'{"request_id": "%s", "event_time": "%s", "bought": 1}'
    stamp = (codec.EPOCH + at_ms * codec.MILLISECOND).isoformat().encode()
    with _drift(settings) as process:
        began = time.monotonic()
        _wait(lambda: _is_ready(settings), "drift is ready")
        ready_seconds, ready_mib = time.monotonic() - began, _rss(process)
        batches: dict[int, list[Record]] = {number: [] for number in range(PARTITIONS)}
        for number in numbers:
            key = _id(number).encode()
            batches[number % PARTITIONS].append((key, value % (key, stamp), []))
        send(settings, LABEL_TOPIC, batches)
        _beat(settings, at_ms + 1)
        _wait(lambda: _outcomes(settings) > joined_before, "a label is joined")
        first_seconds = time.monotonic() - began
        _wait(lambda: _outcomes(settings) >= joined_before + LABELS, "all labels are joined")
        figures = {
            "seconds_to_ready": ready_seconds,
            "seconds_to_first_label": first_seconds,
            "seconds_to_all_labels": time.monotonic() - began,
            "rss_mib_when_ready": ready_mib,
            "rss_mib": _rss(process),
        }
        process.kill()
        process.wait()
    return figures


def _outcomes(settings: Settings) -> int:
    with contextlib.closing(kafka_consumers.connect(settings, "bench-outcomes")) as consumer:
        return sum(kafka_consumers.end_offsets(consumer, topics.outcomes(MODEL)))


@contextlib.contextmanager
def _drift(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    log_file = settings.home / "drift.log"
    with processes.running(COMMAND, log_file) as process:
        try:
            yield process
        except SystemExit:
            print(log_file.read_text(encoding="utf-8")[-3000:], flush=True)
            raise


def _rss(process: subprocess.Popen[bytes]) -> float:
    return float(psutil.Process(process.pid).memory_info().rss) / MIB


def _get(settings: Settings, path: str) -> str:
    address = f"http://{settings.host}:{settings.drift_port}{path}"
    with urllib.request.urlopen(address, timeout=5) as answer:
        text: str = answer.read().decode()
        return text


def _is_ready(settings: Settings) -> bool:
    with contextlib.suppress(OSError):
        _get(settings, "/health/ready")
        return True
    return False


def _pending(settings: Settings) -> float:
    with contextlib.suppress(OSError):
        found = re.search(r"^driftline_drift_pending\{.*\} (\S+)$", _get(settings, "/metrics"), re.MULTILINE)
        return float(found[1]) if found else 0.0
    return 0.0


def _wait(is_reached: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS_MAX
    while not is_reached():
        if time.monotonic() > deadline:
            sys.exit(f"bench: not within {SECONDS_MAX:g} s: {what}")
        time.sleep(0.1)


if __name__ == "__main__":
    main()
