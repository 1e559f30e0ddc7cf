"""Records of other clients: any codec, and header names that are no UTF-8; the Java client reads them all."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic

from services.features.partition_reader import PartitionReader
from services.runtime import kafka_consumers
from services.runtime.settings import Settings
from streams.codec import Headers
from streams.groups import Group
from streams.slices import Slice, SliceObserver
from tests.raw_headers import RawName
from tests.waiting import LIVENESS_SECONDS

Seen = list[tuple[bytes, Headers]]
LARGE = b"v" * 300_000
"""Ten of these are above a megabyte, and compressed well below."""


NAMES = [RawName(b"\xff\xfe"), RawName(b"\xed\xa0\x80 surrogate"), RawName("größe".encode("latin-1"))]


async def read_as_group(settings: Settings, topic: str, count: int) -> Seen:
    seen: Seen = []
    done = asyncio.Event()

    async def handle(slice_: Slice) -> None:
        seen.extend((record.value, record.headers) for record in slice_.records)
        slice_.ack()
        if len(seen) >= count:
            done.set()

    group = Group(settings, topic, SliceObserver())
    group.slices([topic], handle)
    async with asyncio.timeout(LIVENESS_SECONDS), group.running():
        await done.wait()
    return seen


async def read_partition(settings: Settings, topic: str, count: int) -> Seen:
    seen: Seen = []
    async with (
        asyncio.timeout(LIVENESS_SECONDS),
        PartitionReader.opened(settings.kafka_options(), topic, 0, 100) as reader,
    ):
        position = 0
        while position < count:
            found, position = await reader.read(position, count)
            seen += [(record.value, record.headers) for record in found]
    return seen


async def read_blocking(settings: Settings, topic: str, count: int) -> Seen:
    del count
    return [(each.value, each.headers) for each in kafka_consumers.read_topic(settings, "test", topic)]


READERS: Mapping[str, Callable[[Settings, str, int], Any]] = {
    "group": read_as_group,
    "partition reader": read_partition,
    "kafka-python": read_blocking,
}


def write(kafka: str, topic: str, records: Seen, codec: str = "producer") -> None:
    """Write records to a new topic whose broker compresses with a codec, in as few batches as possible."""
    with contextlib.closing(KafkaAdminClient(bootstrap_servers=kafka)) as admin:
        admin.create_topics([NewTopic(topic, 1, 1, topic_configs={"compression.type": codec})])
    size_bytes = 4 << 20
    options = {"batch_size": size_bytes, "max_request_size": size_bytes, "linger_ms": 200}
    producer = KafkaProducer(bootstrap_servers=kafka, compression_type="gzip", **options)
    with contextlib.closing(producer):
        for value, headers in records:
            producer.send(topic, key=b"k", value=value, headers=headers)
        producer.flush()


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_batches_of_every_codec_are_read(kafka: str, unique_name: str, codec: str, reader: str) -> None:
    settings = Settings(_env_file=None, broker=kafka)
    written: Seen = [(b"%d " % number + LARGE, [("n", b"%d" % number)]) for number in range(10)]
    write(kafka, unique_name, written, codec)
    seen = asyncio.run(READERS[reader](settings, unique_name, len(written)))
    assert [(value, list(headers)) for value, headers in seen] == written


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("codec", ["uncompressed", "gzip", "zstd"])
def test_a_header_name_that_is_no_text_stops_nothing(
    kafka: str, unique_name: str, codec: str, reader: str
) -> None:
    settings = Settings(_env_file=None, broker=kafka)
    headers: Headers = [*((name, b"v") for name in NAMES), ("empty", b""), ("größe", b"1")]
    written: Seen = [(b"before", [("ok", b"1")]), (b"bad", headers), (b"after", [("ok", b"2")])]
    write(kafka, unique_name, written, codec)
    seen = asyncio.run(READERS[reader](settings, unique_name, len(written)))
    assert [value for value, _ in seen] == [b"before", b"bad", b"after"]
    found = dict(seen[1][1])
    assert len(found) == len(headers)
    assert found["empty"] == b""
    assert found["größe"] == b"1"
    assert all(name.encode() for name in found), "names can be written to a dead letter"
    assert [list(headers) for _, headers in (seen[0], seen[2])] == [[("ok", b"1")], [("ok", b"2")]]
