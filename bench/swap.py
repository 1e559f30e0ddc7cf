"""Latency while a version is replaced: 1,000 requests per second through Kafka, with a swap midway.

A separate process sends at a fixed rate, independent of the responses. After two seconds a ModelChanged names
a version that the scoring process has not loaded; it is downloaded, verified, loaded and checked while the
old version predicts. Latency runs from the scheduled send time of a request to the arrival of its prediction;
it counts from the change until a second after the first prediction of the new version. A swap adds the
difference to the same figure in turns without a swap, with the same kind of model: a forest takes longer than
a linear model, and the machine itself causes delays. Each kind is swapped several times; the first swap of a
kind is reported apart, because it imports the code of that kind.
"""

import dataclasses
import gc
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from bench import processes, report
from bench.report import Figures
from bench.scoring_job import installation
from bench.scoring_job.installation import MODEL, NAMES, PARTITIONS, REQUESTS
from bench.scoring_job.load import scheduled_ns
from bench.scoring_job.running import COMMAND, SINK, wait_ready
from services.runtime.settings import Settings
from streams import records
from streams.topics import MODELS

RATE, SECONDS, CHANGE_SECONDS = 1000.0, 6.0, 2.0
TURNS = 4
"""Swaps of each kind: the first, and those whose median counts."""
QUIET, QUIET_TURNS = "no swap", 2
QUIET_SECONDS = 0.5
"""Stands for the duration of a swap in the turns without one."""
LATE_SECONDS_MAX = 30.0
AFTER_NS = 1_000_000_000


class _Prediction(msgspec.Struct):
    id: str = msgspec.field(name="prediction_id")
    version: int


@dataclasses.dataclass(frozen=True)
class Turn:
    """The predictions of one turn, by the scheduled send time of their requests."""

    sent_ns: np.ndarray[Any, np.dtype[np.int64]]
    received_ns: np.ndarray[Any, np.dtype[np.int64]]
    versions: np.ndarray[Any, np.dtype[np.int64]]
    changed_ns: int


def main() -> None:
    """Measure and report."""
    measures: dict[str, dict[str, Figures]] = {}
    with installation.installed([SINK]) as (settings, _):
        versions = {
            kind: [installation.register(settings, make(seed)) for seed in range(TURNS)]
            for kind, make in _kinds().items()
        }
        warm = installation.register(settings, installation.train(seed=TURNS))
        with processes.running(COMMAND, settings.home / "scoring.log"):
            wait_ready(settings)
            _turn(settings, warm)
            for kind, numbers in versions.items():
                first, *others = [_figures(_turn(settings, number), number) for number in numbers]
                quiet = _medians([_figures(_turn(settings, None)) for _ in range(QUIET_TURNS)])
                swaps = {"first of its kind": first, "later ones": _medians(others)}
                measures[kind] = {QUIET: quiet} | {
                    which: {**figures, "added_p99": figures["p99"] - quiet["p99"]}
                    for which, figures in swaps.items()
                }
    notes = f"swaps at {RATE:,.0f} requests/s; request to prediction, ms"
    report.write_measures("swap", measures, {}, notes)


def _kinds() -> Mapping[str, Callable[[int], Any]]:
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

    def fitted(estimator: Any, seed: int) -> Any:
        inputs = np.random.default_rng(seed).normal(size=(5000, len(NAMES)))
        return estimator.fit(inputs, inputs.sum(axis=1) > 0)

    return {
        "logistic regression": installation.train,
        "150 boosted trees": lambda seed: fitted(HistGradientBoostingClassifier(max_iter=150), seed),
        "forest of 100": lambda seed: fitted(RandomForestClassifier(max_depth=10, random_state=seed), seed),
    }


def _turn(settings: Settings, version: int | None) -> Turn:
    """Send and receive; midway, make the version the champion if one is given."""
    consumer, producer = _consumer(settings), _producer(settings)
    command = [sys.executable, "-m", "bench.scoring_job.load"]
    arguments = [settings.broker, REQUESTS, str(RATE), str(SECONDS)]
    with subprocess.Popen([*command, *arguments], stdout=subprocess.DEVNULL) as sender:
        received, changed_ns = _receive(
            consumer, (lambda: _announce(producer, version)) if version else lambda: None
        )
        sender.wait(LATE_SECONDS_MAX)
    consumer.close()
    producer.flush(10)
    decode = msgspec.json.Decoder(_Prediction).decode
    rows = sorted(
        (scheduled_ns(prediction.id), at_ns, prediction.version)
        for at_ns, value in received
        for prediction in [decode(value)]
    )
    sent_ns, received_ns, versions = np.array(rows, dtype=np.int64).T
    return Turn(sent_ns, received_ns, versions, changed_ns)


def _receive(consumer: Any, announce: Callable[[], None]) -> tuple[Sequence[tuple[int, bytes]], int]:
    """Return all predictions of a turn with their arrival times, and the time of the change made midway."""
    received: list[tuple[int, bytes]] = []
    changed_ns = 0
    deadline = time.monotonic() + SECONDS + LATE_SECONDS_MAX
    gc.disable()
    while len(received) < int(RATE * SECONDS):
        message = consumer.poll(0.1)
        if message is not None:
            received.append((time.time_ns(), message.value()))
        elif time.monotonic() > deadline:
            sys.exit(f"bench: only {len(received)} predictions arrived")
        if not changed_ns and len(received) >= RATE * CHANGE_SECONDS:
            changed_ns = time.time_ns()
            announce()
    gc.enable()
    return received, changed_ns


def _announce(producer: Any, version: int) -> None:
    change = records.ModelChanged(
        model=MODEL,
        arms=[records.Arm(name="champion", version=version, weight=10_000)],
        changed_at_ms=0,
        reason="bench",
    )
    producer.produce(MODELS.name, records.encode(change), MODEL)
    producer.poll(0)


def _figures(turn: Turn, version: int | None = None) -> Figures:
    """Return the latencies around the change, and the time until the first prediction of the new version."""
    latencies_ms = (turn.received_ns - turn.sent_ns) / 1e6
    switched_ns = turn.changed_ns + int(QUIET_SECONDS * 1e9)
    if version is not None:
        switched_ns = int(turn.received_ns[turn.versions == version].min())
    around = (turn.received_ns >= turn.changed_ns) & (turn.sent_ns <= switched_ns + AFTER_NS)
    return {
        "p50": float(np.percentile(latencies_ms[around], 50)),
        "p99": float(np.percentile(latencies_ms[around], 99)),
        "max": float(latencies_ms[around].max()),
        "takes_over_after": (switched_ns - turn.changed_ns) / 1e6,
    }


def _medians(turns: Sequence[Figures]) -> Figures:
    return {name: statistics.median(turn[name] for turn in turns) for name in turns[0]}


def _consumer(settings: Settings) -> Any:
    """Return a consumer positioned at the end of the predictions."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer(
        {"bootstrap.servers": settings.broker, "group.id": "bench-swap", "enable.auto.commit": False}
    )
    partitions = [TopicPartition(SINK, partition) for partition in range(PARTITIONS)]
    ends = [consumer.get_watermark_offsets(partition, 10)[1] for partition in partitions]
    consumer.assign(
        [TopicPartition(each.topic, each.partition, end) for each, end in zip(partitions, ends, strict=True)]
    )
    consumer.poll(0.5)
    return consumer


def _producer(settings: Settings) -> Any:
    """Return a producer that is connected."""
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": settings.broker, "linger.ms": 0})
    producer.list_topics(MODELS.name, timeout=10)
    return producer


if __name__ == "__main__":
    main()
