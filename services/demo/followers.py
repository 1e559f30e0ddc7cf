"""Readers of the topics of the account and of the retraining topic while the demo runs.

Records that do not decode are skipped: another application has written them. If one of them is Driftline's
own, the account is not exact.

Neither consumer commits: the demo starts with empty topics and reads each once from its start.
"""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from services.demo.account import RequestAccount
from services.demo.retrainings import RetrainingLog
from services.demo.world import Companion
from services.model_registry import model_change
from services.runtime.settings import Settings
from streams import records, topics
from streams.aiokafka_internals import stop_consumer
from streams.json_decoder import valid

_FETCH_BYTES_MIN = 128 << 10
_FETCH_WAIT_MS_MAX = 400
"""Maximum wait of a fetch. The account is shown a few times per second; larger fetches save broker CPU."""
_SLICE_RECORDS_MAX = 4000
"""Maximum records per poll, about 10 ms of decoding, so that the producer in the same loop is not delayed."""
_CATCH_UP_SECONDS_MAX = 30.0


class CatchUpError(RuntimeError):
    """The end of a topic was not reached in time."""


def _consumer(settings: Settings, **options: Any) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        **settings.kafka_options(), enable_auto_commit=False, auto_offset_reset="earliest", **options
    )


class AccountFollower:
    """Feeds the accounts from the topics of predictions, outcomes, dead letters, drift and models."""

    def __init__(
        self, settings: Settings, account: RequestAccount, companion: Companion, partitions: int
    ) -> None:
        """Assign every partition; nothing connects before `start`."""
        model = account.model
        decode_drift = records.decoder_of(records.DriftRecord).decode

        def add_drift(values: Sequence[bytes]) -> None:
            for found in valid(decode_drift, values):
                account.add_drift(found)
                companion.add_drift(found)

        def add_changes(values: Sequence[bytes]) -> None:
            for change in valid(model_change.decode, values):
                if change is not None:
                    account.add_change(change)

        every = range(partitions)
        handlers: list[tuple[str, Sequence[int], Callable[[Sequence[bytes]], None]]] = [
            (topics.predictions(model), every, account.add_predictions),
            (topics.outcomes(model), every, account.add_outcomes),
            (topics.predictions(companion.model), every, companion.add_predictions),
            (topics.DEAD_LETTERS.name, [0], account.add_dead_letters),
            (topics.DRIFT.name, [0], add_drift),
            (topics.MODELS.name, [0], add_changes),
        ]
        self._handlers = defaultdict[str, list[Callable[[Sequence[bytes]], None]]](list)
        for topic, _, handler in handlers:
            self._handlers[topic].append(handler)
        assigned = {TopicPartition(topic, number) for topic, numbers, _ in handlers for number in numbers}
        self._assignment = sorted(assigned)
        self._positions = dict.fromkeys(self._assignment, 0)
        self._settings = settings
        self._consumer: AIOKafkaConsumer = None

    async def start(self) -> None:
        """Connect."""
        self._consumer = _consumer(
            self._settings, fetch_min_bytes=_FETCH_BYTES_MIN, fetch_max_wait_ms=_FETCH_WAIT_MS_MAX
        )
        await self._consumer.start()
        self._consumer.assign(self._assignment)

    async def stop(self) -> None:
        """Disconnect."""
        if self._consumer is not None:
            await stop_consumer(self._consumer)

    async def follow(self) -> None:
        """Read until cancelled."""
        while True:
            slices = await self._consumer.getmany(
                timeout_ms=_FETCH_WAIT_MS_MAX, max_records=_SLICE_RECORDS_MAX
            )
            for partition, messages in slices.items():
                values = [message.value for message in messages if message.value is not None]
                for handle in self._handlers[partition.topic]:
                    handle(values)
                self._positions[partition] = messages[-1].offset + 1
                await asyncio.sleep(0)

    async def catch_up(self) -> None:
        """Wait until all records written before this call are in the account; `follow` must be running."""
        ends = await self._consumer.end_offsets(self._assignment)
        try:
            async with asyncio.timeout(_CATCH_UP_SECONDS_MAX):
                while lagging := self._lagging(ends):  # noqa: ASYNC110  # a few polls, once per run
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise CatchUpError(
                f"the account did not reach the end of {lagging[0].topic} in {_CATCH_UP_SECONDS_MAX:g} s"
            ) from None

    def _lagging(self, ends: Mapping[TopicPartition, int]) -> list[TopicPartition]:
        return [partition for partition, end in ends.items() if self._positions[partition] < end]

    async def next_offsets(self, topic: str, partitions: int) -> list[int]:
        """Return the next offset of each partition of any topic."""
        wanted = [TopicPartition(topic, number) for number in range(partitions)]
        ends = await self._consumer.end_offsets(wanted)
        return [ends[partition] for partition in wanted]


class RetrainingFollower:
    """Reads the retraining topic into the log, up to its end on request."""

    def __init__(self, settings: Settings, log: RetrainingLog) -> None:
        """Assign the topic's one partition; nothing connects before `start`."""
        self._log = log
        self._decode = records.decoder_of(records.RetrainingRecord).decode
        self._place = TopicPartition(topics.RETRAINING.name, 0)
        self._position = 0
        self._settings = settings
        self._consumer: AIOKafkaConsumer = None
        self._end_consumer: AIOKafkaConsumer = None
        """Requests the topic's end on a second connection; on the first one the request would wait until a
        fetch that waits for records has returned."""

    async def start(self) -> None:
        """Connect."""
        self._consumer, self._end_consumer = _consumer(self._settings), _consumer(self._settings)
        await asyncio.gather(self._consumer.start(), self._end_consumer.start())
        self._consumer.assign([self._place])

    async def stop(self) -> None:
        """Disconnect."""
        if self._consumer is not None:
            await asyncio.gather(stop_consumer(self._consumer), stop_consumer(self._end_consumer))

    async def drain(self) -> None:
        """Read everything that was acknowledged before this call."""
        end = (await self._end_consumer.end_offsets([self._place]))[self._place]
        while self._position < end:
            slices = await self._consumer.getmany(timeout_ms=100)
            for message in itertools.chain.from_iterable(slices.values()):
                self._position = message.offset + 1
                for found in valid(self._decode, [message.value] if message.value else []):
                    self._log.add(found)
