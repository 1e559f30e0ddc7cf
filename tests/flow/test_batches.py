"""The batch engine on a real broker: no loss, order kept, commits after the work, bounded shutdown."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

from streams.producer import BatchProducer, Record
from streams.repeats import RepeatFilter
from tests.waiting import LIVENESS_SECONDS, until

PARTITIONS = 4
WORKER = Path(__file__).parent.parent / "workers" / "forward.py"


@pytest.fixture
def topics(kafka, request) -> tuple[str, str]:
    """Two new topics, source and sink."""
    name = f"{request.node.name[:60]}-{uuid.uuid4().hex[:6]}"
    admin = KafkaAdminClient(bootstrap_servers=kafka)
    admin.create_topics([NewTopic(f"{name}-{side}", PARTITIONS, 1) for side in ("source", "sink")])
    admin.close()
    return f"{name}-source", f"{name}-sink"


class Workers:
    """Starts forwarding processes."""

    def __init__(self, kafka: str, topics: tuple[str, str], folder: Path) -> None:
        self.environment = os.environ | {"DRIFTLINE_BROKER": kafka, "PYTHONPATH": os.pathsep.join(sys.path)}
        self.arguments = [f"group-{topics[0]}", *topics]
        self.folder = folder
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, **extra: str) -> subprocess.Popen[bytes]:
        log = (self.folder / f"worker-{len(self.started)}.log").open("wb")
        command = [sys.executable, str(WORKER), *self.arguments]
        process = subprocess.Popen(
            command, env=self.environment | extra, stdout=log, stderr=subprocess.STDOUT
        )
        self.started.append(process)
        return process

    def log(self, number: int = 0) -> str:
        return (self.folder / f"worker-{number}.log").read_text()


@pytest.fixture
def workers(kafka, topics, tmp_path) -> Iterator[Workers]:
    running = Workers(kafka, topics, tmp_path)
    yield running
    for process in running.started:
        if process.poll() is None:
            process.kill()
        process.wait()


def fill(kafka: str, topic: str, count: int) -> None:
    async def send() -> None:
        producer = BatchProducer({"bootstrap_servers": kafka})
        await producer.start()
        batch: list[Record] = [(b"k", b"x" * 60, [])] * (count // PARTITIONS)
        await asyncio.gather(*(producer.send(topic, partition, batch) for partition in range(PARTITIONS)))
        await producer.stop()

    asyncio.run(send())


def forwarded(kafka: str, sink: str, wanted: int) -> tuple[dict[int, list[int]], int]:
    """Read the sink until it has this many distinct records, then to its end.

    Returns the source offsets by partition, in the order of arrival, and the number of repeats.
    """
    consumer = KafkaConsumer(bootstrap_servers=kafka, auto_offset_reset="earliest")
    whole = [TopicPartition(sink, partition) for partition in range(PARTITIONS)]
    consumer.assign(whole)
    repeats, dropped = RepeatFilter(), 0
    seen: dict[int, list[int]] = {partition: [] for partition in range(PARTITIONS)}
    deadline = time.monotonic() + LIVENESS_SECONDS
    while sum(map(len, seen.values())) < wanted or any(
        consumer.position(partition) < end for partition, end in consumer.end_offsets(whole).items()
    ):
        assert time.monotonic() < deadline, f"only {sum(map(len, seen.values()))} of {wanted} arrived"
        for records in consumer.poll(timeout_ms=200, max_records=10_000).values():
            for record in records:
                partition, offset = map(int, record.value.split())
                assert partition == record.partition
                if repeats.is_repeat(partition, offset):
                    dropped += 1
                else:
                    seen[partition].append(offset)
    consumer.close()
    return seen, dropped


def committed(kafka: str, group: str) -> int:
    admin = KafkaAdminClient(bootstrap_servers=kafka)
    offsets = admin.list_group_offsets(f"driftline.{group}")[f"driftline.{group}"]
    admin.close()
    return sum(entry.offset for entry in offsets.values())


def assert_complete(seen: dict[int, list[int]], count: int) -> None:
    for partition, offsets in seen.items():
        assert offsets == list(range(count // PARTITIONS)), (
            f"partition {partition} is incomplete or out of order"
        )


def test_a_kill_in_mid_stream_loses_nothing_and_keeps_the_order(kafka, topics, workers):
    source, sink = topics
    fill(kafka, source, 80_000)
    first = workers.start(FORWARD_PAUSE_SECONDS="0.02")
    forwarded(kafka, sink, 8000)
    first.kill()
    workers.start()
    seen, dropped = forwarded(kafka, sink, 80_000)
    assert_complete(seen, 80_000)
    print(f"account: 80000 in, 80000 out, {dropped} repeats dropped")


def test_workers_that_join_and_leave_share_the_work_and_lose_nothing(kafka, topics, workers):
    source, sink = topics
    fill(kafka, source, 60_000)
    first = workers.start(FORWARD_PAUSE_SECONDS="0.1")
    forwarded(kafka, sink, 2000)
    workers.start(FORWARD_PAUSE_SECONDS="0.1")
    forwarded(kafka, sink, 20_000)
    first.send_signal(signal.SIGTERM)
    assert first.wait(LIVENESS_SECONDS) == 0
    seen, dropped = forwarded(kafka, sink, 60_000)
    assert_complete(seen, 60_000)
    print(f"account: 60000 in, 60000 out, {dropped} repeats dropped")


def test_a_slice_that_fails_is_not_committed_and_is_retried(kafka, topics, workers):
    source, sink = topics
    fill(kafka, source, 4000)
    worker = workers.start(FORWARD_FAILURES="3")
    forwarded(kafka, sink, 4000)
    until(lambda: workers.log().count("slice.retried") == 3, "the slice was retried three times")
    assert worker.poll() is None
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(LIVENESS_SECONDS) == 0
    assert committed(kafka, workers.arguments[0]) == 4000
    seen, dropped = forwarded(kafka, sink, 4000)
    assert_complete(seen, 4000)
    assert dropped > 0


def test_shutdown_is_bounded_and_commits_only_finished_slices(kafka, topics, workers):
    source, _ = topics
    fill(kafka, source, 4000)
    hanging = workers.start(FORWARD_HANG="1")
    until(lambda: "hanging" in workers.log(), "a slice hangs")
    hanging.send_signal(signal.SIGTERM)
    hanging.wait(LIVENESS_SECONDS)
    assert committed(kafka, workers.arguments[0]) == 0


def test_shutdown_after_the_work_has_committed_all_of_it(kafka, topics, workers):
    source, sink = topics
    fill(kafka, source, 20_000)
    worker = workers.start()
    forwarded(kafka, sink, 20_000)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(LIVENESS_SECONDS) == 0
    assert committed(kafka, workers.arguments[0]) == 20_000


def test_fetching_waits_while_too_much_is_in_flight(kafka, topics, workers):
    source, sink = topics
    fill(kafka, source, 80_000)  # about 5 MB
    worker = workers.start(DRIFTLINE_IN_FLIGHT_BYTES_MAX=str(1 << 20), FORWARD_PAUSE_SECONDS="0.01")
    forwarded(kafka, sink, 80_000)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(LIVENESS_SECONDS) == 0
    noted = re.search(r"at most (\d+) bytes", workers.log())
    assert noted
    in_flight = int(noted[1])
    slice_bytes_max = 2000 * 61
    assert in_flight <= (1 << 20) + PARTITIONS * slice_bytes_max
