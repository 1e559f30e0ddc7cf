"""Latency of scoring: from the scheduled send time of a request to the arrival of its prediction.

The path of a request: client, Kafka, the scoring process with its read of ten features from Valkey, Kafka,
client. A separate process sends at a fixed rate, independent of the responses, so that no waiting is left
out; this process receives. Measured at 1,000 requests per second and at half of the maximum rate of this
whole path in the same run, with sender and receiver on the same cores. For comparison, the latency of Kafka
alone in the same seconds: from the client to the broker and back, a path that each prediction takes twice.
Each figure is the median of several turns, because a single delay of the machine determines a 99th
percentile.
"""

import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from bench import processes, report
from bench.report import Figures
from bench.scoring_job import installation
from bench.scoring_job.installation import PARTITIONS, REQUESTS
from bench.scoring_job.load import LINGER_MS, scheduled_ns
from bench.scoring_job.running import COMMAND, SINK, drain, wait_ready
from services.runtime.settings import Settings

RATE = 1000.0
TOO_MANY = 60_000.0
"""Requests per second; more than the scoring process can handle."""
BACKLOG = 200_000
TURNS, SECONDS, WARM_SECONDS = 5, 6.0, 1.0
WARM_TURNS = 2
"""Turns in which the JVM of the broker compiles its code."""
LATE_SECONDS_MAX = 30.0


Received = tuple[int, str, bytes]
"""Unix time in ns, topic, value."""


class _Prediction(msgspec.Struct):
    id: str = msgspec.field(name="prediction_id")


class _Request(msgspec.Struct):
    id: str = msgspec.field(name="request_id")


def main() -> None:
    """Measure and report."""
    with (
        installation.installed([SINK]) as (settings, _),
        processes.running(COMMAND, settings.home / "scoring.log"),
    ):
        wait_ready(settings)
        drain(settings, BACKLOG, first=0)
        for _ in range(WARM_TURNS):
            _turn(settings, RATE)
        most = statistics.median(_most(settings) for _ in range(TURNS))
        measures: dict[str, dict[str, Figures]] = {
            f"{rate:,.0f} requests/s": _measure(settings, rate) for rate in (RATE, most / 2)
        }
    notes = f"request to prediction through Kafka; at most {most:,.0f} requests/s, linger {LINGER_MS} ms"
    report.write_measures("latency", measures, {}, notes)


def _most(settings: Settings) -> float:
    """Return the maximum rate: predictions received per second while more requests are sent."""
    received = _received(settings, TOO_MANY)[0]
    times_ns = [at_ns for at_ns, topic, _ in received if topic == SINK]
    return (len(times_ns) - 1) / (times_ns[-1] - times_ns[0]) * 1e9


def _measure(settings: Settings, rate: float) -> dict[str, Figures]:
    turns = [_turn(settings, rate) for _ in range(TURNS)]
    return {
        name: {figure: statistics.median(turn[name][figure] for turn in turns) for figure in turns[0][name]}
        for name in turns[0]
    }


def _turn(settings: Settings, rate: float) -> dict[str, Figures]:
    """Return the latencies of one turn: Driftline's, those of Kafka alone, and the lateness of the sender."""
    received, late = _received(settings, rate)
    warm = int(rate * WARM_SECONDS)
    ours = _percentiles(_latencies_ms(received, SINK, _Prediction)[warm:])
    alone = _percentiles(_latencies_ms(received, REQUESTS, _Request)[warm:])
    above = {figure: ours[figure] - alone[figure] for figure in ours}
    return {
        "driftline": ours,
        "kafka alone": alone,
        "driftline above kafka alone": above,
        "sender's lateness": late,
    }


def _received(settings: Settings, rate: float) -> tuple[Sequence[Received], Figures]:
    """Send requests at a rate; return all records that arrive, and the lateness of the sender."""
    consumer = _consumer(settings)
    command = [sys.executable, "-m", "bench.scoring_job.load"]
    arguments = [settings.broker, REQUESTS, str(rate), str(SECONDS)]
    with subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE) as process:
        received = _receive(consumer, 2 * int(rate * SECONDS))
        late: Figures = json.loads(process.communicate(timeout=LATE_SECONDS_MAX)[0])
    consumer.close()
    return received, late


def _consumer(settings: Settings) -> Any:
    """Return a consumer positioned at the end of the requests and of the predictions."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer(
        {"bootstrap.servers": settings.broker, "group.id": "bench-latency", "enable.auto.commit": False}
    )
    partitions = [(topic, number) for topic in (REQUESTS, SINK) for number in range(PARTITIONS)]
    ends = [consumer.get_watermark_offsets(TopicPartition(*partition), 10)[1] for partition in partitions]
    consumer.assign(
        [TopicPartition(*partition, end) for partition, end in zip(partitions, ends, strict=True)]
    )
    consumer.poll(0.5)
    return consumer


def _receive(consumer: Any, wanted: int) -> Sequence[Received]:
    """Return this many records with their arrival times. They are decoded afterwards."""
    received: list[Received] = []
    deadline = time.monotonic() + SECONDS + LATE_SECONDS_MAX
    gc.disable()
    while len(received) < wanted:
        message = consumer.poll(1.0)
        if message is not None:
            received.append((time.time_ns(), message.topic(), message.value()))
        elif time.monotonic() > deadline:
            sys.exit(f"bench: {len(received)} of {wanted} records arrived")
    gc.enable()
    return received


def _latencies_ms(
    received: Sequence[Received], topic: str, record: type[_Prediction | _Request]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the latencies (n,) of a topic's records, in the order in which the requests were scheduled."""
    decode = msgspec.json.Decoder(record).decode
    sent = [(scheduled_ns(decode(value).id), at_ns) for at_ns, name, value in received if name == topic]
    sent.sort()
    return np.array([(at_ns - sent_ns) / 1e6 for sent_ns, at_ns in sent])


def _percentiles(latencies_ms: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, float]:
    return {f"p{share}_ms": float(np.percentile(latencies_ms, share)) for share in (50, 95, 99)}


if __name__ == "__main__":
    main()
