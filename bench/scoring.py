"""The scoring job, ours against two others, on the same servers and the same events.

The job: a JSON request names a user; ten features of that user are read from the online store
(Feast's layout on Valkey), a logistic regression scores them, and a JSON answer goes to a topic with
four partitions. Ours is the real scoring process, with validation, dead letters, metrics, commits
and the whole prediction record. Rates are taken from the broker's own append times of the answers,
from the first one on, so that no contender's start-up counts.
"""

import dataclasses
import os
import pickle
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bench import processes, report
from bench.scoring_job import installation
from bench.scoring_job.installation import JOB, MODEL, PARTITIONS, REQUESTS
from services import model, topics
from services.embedded.cluster import Embedded
from services.settings import Settings
from streams.topics import predictions

REQUESTS_FEW = "bench.requests-few"
EVENTS, EVENTS_FEW = 200_000, 5000
ROUNDS = 2
ANSWER_SECONDS_MAX = 120


@dataclasses.dataclass(frozen=True)
class Contender:
    """One way to do the job, as a process of its own."""

    name: str
    command: list[str]
    source: str
    sink: str
    events: int
    """In each round."""
    rounds: int


@dataclasses.dataclass(frozen=True)
class Answers:
    """What stands in a contender's topic: broker times in ms and scores by request."""

    times_ms: np.ndarray[Any, np.dtype[np.int64]]
    scores: dict[str, float]

    @property
    def rate(self) -> float:
        """Events per second from the first batch of answers on."""
        first, last = self.times_ms.min(), self.times_ms.max()
        return float((self.times_ms > first).sum() / max(last - first, 1) * 1000)


class _Answer(msgspec.Struct):
    prediction_id: str
    score: float


def main() -> None:
    """Run all contenders and report."""
    with tempfile.TemporaryDirectory(prefix="driftline-bench-") as folder:
        base = Settings(home=Path(folder), models=JOB / "models", feature_repo=JOB / "feature_repo")
        with Embedded(base) as servers:
            os.environ |= servers.settings.environment()
            rates = _measure(servers.settings, Path(folder))
    ratios = {name: rates["driftline"] / rate for name, rate in rates.items() if name != "driftline"}
    report.write(
        "scoring",
        rates,
        ratios,
        "events/s",
        f"10 Feast features, logistic regression, {PARTITIONS} partitions",
    )


def _measure(settings: Settings, folder: Path) -> dict[str, float]:
    model_file = folder / "model.pickle"
    contenders = _contenders(settings, model_file)
    _create_topics(settings, contenders)
    installation.write_features(settings)
    estimator = installation.train(seed=1)
    model_file.write_bytes(pickle.dumps(estimator))
    installation.announce(settings, installation.register(settings, estimator))
    installation.fill(settings, REQUESTS_FEW, EVENTS_FEW, first=0)
    rates: dict[str, float] = {}
    scores: dict[str, dict[str, float]] = {}
    for turn in range(ROUNDS):
        installation.fill(settings, REQUESTS, EVENTS, first=turn * EVENTS)
        for contender in contenders:
            if turn >= contender.rounds:
                continue
            answers = _race(settings, contender, turn, folder)
            rates[contender.name] = max(answers.rate, rates.get(contender.name, 0.0))
            scores.setdefault(contender.name, {}).update(answers.scores)
            print(f"round {turn + 1}: {contender.name} {answers.rate:,.0f} events/s", flush=True)
    _compare(scores)
    return rates


def _contenders(settings: Settings, model_file: Path) -> list[Contender]:
    run = [sys.executable, "-m"]

    def contender(name: str, *arguments: str, source: str, events: int, rounds: int) -> Contender:
        sink = f"bench.answers-{name}"
        command = [
            *run,
            f"bench.contenders.{name}",
            settings.broker,
            *arguments,
            str(model_file),
            source,
            sink,
        ]
        return Contender(name, command, source, sink, events, rounds)

    return [
        contender("faust_feast", str(JOB / "feature_repo"), source=REQUESTS_FEW, events=EVENTS_FEW, rounds=1),
        contender("confluent_loop", settings.redis_url, source=REQUESTS, events=EVENTS, rounds=ROUNDS),
        Contender(
            "driftline", [*run, "services.cli", "scoring"], REQUESTS, predictions(MODEL), EVENTS, ROUNDS
        ),
    ]


def _create_topics(settings: Settings, contenders: list[Contender]) -> None:
    """Create the sinks with the broker's own clock, then everything else as an installation has it."""
    from kafka.admin import KafkaAdminClient, NewTopic

    broker_time = {"message.timestamp.type": "LogAppendTime"}
    sinks = [NewTopic(contender.sink, PARTITIONS, 1, topic_configs=broker_time) for contender in contenders]
    admin = KafkaAdminClient(**settings.kafka_options())
    admin.create_topics([*sinks, NewTopic(REQUESTS_FEW, PARTITIONS, 1)])
    admin.close()
    topics.ensure_topics(settings, model.load_all(settings.models), views=[])


def _race(settings: Settings, contender: Contender, turn: int, folder: Path) -> Answers:
    log_file = folder / f"{contender.name}.log"
    wanted = contender.events * (turn + 1)
    with processes.running(contender.command, log_file) as process:
        deadline = time.monotonic() + ANSWER_SECONDS_MAX
        while _count(settings, contender.sink) < wanted:
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"bench: {contender.name} did not finish:\n{log_file.read_text()[-3000:]}")
            time.sleep(0.2)
    return _read(settings, contender.sink, skip=contender.events * turn, wanted=wanted)


def _count(settings: Settings, topic: str) -> int:
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": settings.broker, "group.id": "bench-count"})
    try:
        marks = (consumer.get_watermark_offsets(TopicPartition(topic, p), 10) for p in range(PARTITIONS))
        return sum(high for _, high in marks)
    finally:
        consumer.close()


def _read(settings: Settings, topic: str, *, skip: int, wanted: int) -> Answers:
    """Read all answers of a topic; those of earlier rounds count in neither times nor scores."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer(
        {"bootstrap.servers": settings.broker, "group.id": "bench-read", "enable.auto.commit": False}
    )
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
    decode = msgspec.json.Decoder(_Answer).decode
    read: list[tuple[int, str, float]] = []
    while len(read) < wanted:
        for message in consumer.consume(10_000, 1.0):
            answer = decode(message.value() or b"")
            read.append((message.timestamp()[1], answer.prediction_id, answer.score))
    consumer.close()
    read.sort()
    counted = read[skip:]
    return Answers(np.array([when for when, _, _ in counted]), {name: score for _, name, score in counted})


def _compare(scores: Mapping[str, Mapping[str, float]]) -> None:
    """A contender that answers something else has not done the job."""
    ours = scores["driftline"]
    for name, theirs in scores.items():
        if len(theirs) not in (EVENTS_FEW, EVENTS * ROUNDS):
            sys.exit(f"bench: {name} answered {len(theirs)} requests")
        wrong = sum(1 for request, score in theirs.items() if abs(score - ours[request]) > 1e-12)
        if wrong and name != "faust_feast":  # its few requests are others
            sys.exit(f"bench: {name} and driftline differ on {wrong} requests")


if __name__ == "__main__":
    main()
