"""Reads a partition from one offset to another, in bounded pieces and within bounded time.

The asyncio counterpart of `services.runtime.kafka_consumers.read_to_end`: the replay writes with
`streams.producer.BatchProducer` between two pieces, and aiokafka reads millions of letters ten times as fast
as kafka-python, whose checksums are in Python.
"""

import contextlib
import time
from collections.abc import AsyncIterator, Sequence

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from services.runtime.kafka_consumers import COMMITTED
from services.runtime.settings import Settings
from streams import topics
from streams.aiokafka_internals import stop_consumer

PIECE_RECORDS_MAX = 500
SILENCE_SECONDS_MAX = 30.0
"""A broker that sends nothing for this long before the end of a partition is considered down."""
LETTERS = TopicPartition(topics.DEAD_LETTERS.name, 0)


class LettersError(RuntimeError):
    """The dead letters cannot be read or replayed now. The message says why and what to do."""


@contextlib.asynccontextmanager
async def reader(settings: Settings) -> AsyncIterator[AIOKafkaConsumer]:
    """Connect a consumer without a group, and disconnect at the end of the block."""
    consumer = AIOKafkaConsumer(
        **settings.kafka_options(),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level=COMMITTED,
    )
    await consumer.start()
    try:
        if LETTERS.topic not in await consumer.topics():
            raise LettersError(f"there is no topic {LETTERS.topic}: run 'driftline setup'")
        yield consumer
    finally:
        await stop_consumer(consumer)


async def read(
    consumer: AIOKafkaConsumer, place: TopicPartition, start: int = 0
) -> AsyncIterator[Sequence[ConsumerRecord]]:
    """Yield the records of a partition from an offset to the end at the time of this call.

    Raises:
        LettersError: The broker sent nothing for `SILENCE_SECONDS_MAX` before the end.
    """
    end = (await consumer.end_offsets([place]))[place]
    begin = (await consumer.beginning_offsets([place]))[place]
    consumer.assign([place])
    consumer.seek(place, max(start, begin))
    heard_seconds = time.monotonic()
    while await consumer.position(place) < end:
        fetched = await consumer.getmany(place, timeout_ms=500, max_records=PIECE_RECORDS_MAX)
        piece = [record for record in fetched.get(place, ()) if record.offset < end]
        if piece:
            yield piece
            heard_seconds = time.monotonic()
        elif time.monotonic() - heard_seconds > SILENCE_SECONDS_MAX:
            raise LettersError(
                f"{place.topic}: no record arrived for {SILENCE_SECONDS_MAX:g} s before its end"
            )


async def offset_at(consumer: AIOKafkaConsumer, place: TopicPartition, time_ms: int) -> int:
    """Return the offset of the first record written at a wall time or later, or the end if there is none."""
    found = (await consumer.offsets_for_times({place: time_ms}))[place]
    return int(found.offset) if found is not None else int((await consumer.end_offsets([place]))[place])
