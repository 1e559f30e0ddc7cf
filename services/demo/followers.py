"""Reads what the processes write, as the demo goes on: the topics of the account, and the retrainings.

Neither consumer commits: the demo begins with fresh topics and reads each from its start, once.
"""

import asyncio
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from services.demo.account import RequestAccount
from services.demo.minutes import MinutesAccount
from services.demo.retrainings import RetrainingLog
from services.model_registry import model_change
from services.runtime.settings import Settings
from streams import records, topics

_FETCH_BYTES_MIN = 128 << 10
_FETCH_WAIT_MS_MAX = 400
"""The account is looked at a few times a second: waiting for larger slices saves the broker's CPU."""
_SLICE_RECORDS_MAX = 4000
"""About 10 ms of decoding, so that the producer in the same loop hardly waits."""
_CATCH_UP_SECONDS_MAX = 30.0


class BehindError(RuntimeError):
    """The end of a topic was not reached in time."""


def _consumer(settings: Settings, **options: Any) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        **settings.kafka_options(), enable_auto_commit=False, auto_offset_reset="earliest", **options
    )


class AccountFollower:
    """Feeds the accounts from the topics of predictions, outcomes, dead letters, drift and models."""

    def __init__(
        self, settings: Settings, account: RequestAccount, minutes: MinutesAccount, partitions: int
    ) -> None:
        """Assign every partition; nothing connects before `start`."""
        model = account.model
        decode_drift = records.decoder_of(records.DriftRecord).decode

        def add_drift(values: Sequence[bytes]) -> None:
            for value in values:
                account.add_drift(decode_drift(value))

        def add_changes(values: Sequence[bytes]) -> None:
            for value in values:
                if (change := model_change.decode(value)) is not None:
                    account.add_change(change)

        every = range(partitions)
        handlers: list[tuple[str, Sequence[int], Callable[[Sequence[bytes]], None]]] = [
            (topics.predictions(model), every, account.add_predictions),
            (topics.outcomes(model), every, account.add_outcomes),
            (topics.predictions(minutes.model), every, minutes.add_predictions),
            (topics.DEAD_LETTERS.name, [0], account.add_dead_letters),
            (topics.DRIFT.name, [0], add_drift),
            (topics.MODELS.name, [0], add_changes),
        ]
        self._handlers = {topic: handler for topic, _, handler in handlers}
        self._assignment = [
            TopicPartition(topic, number) for topic, numbers, _ in handlers for number in numbers
        ]
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
            await self._consumer.stop()

    async def follow(self) -> None:
        """Read for ever; a record that does not decode is a defect of its writer and ends this."""
        while True:
            slices = await self._consumer.getmany(
                timeout_ms=_FETCH_WAIT_MS_MAX, max_records=_SLICE_RECORDS_MAX
            )
            for place, messages in slices.items():
                values = [message.value for message in messages if message.value is not None]
                self._handlers[place.topic](values)
                self._positions[place] = messages[-1].offset + 1
                await asyncio.sleep(0)

    async def catch_up(self) -> None:
        """Wait until all that was written before this call is in the account, while `follow` runs."""
        ends = await self._consumer.end_offsets(self._assignment)
        try:
            async with asyncio.timeout(_CATCH_UP_SECONDS_MAX):
                while behind := self._behind(ends):  # noqa: ASYNC110  # a few polls, once a run
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise BehindError(
                f"the account did not reach the end of {behind[0].topic} in {_CATCH_UP_SECONDS_MAX:g} s"
            ) from None

    def _behind(self, ends: Mapping[TopicPartition, int]) -> list[TopicPartition]:
        return [place for place, end in ends.items() if self._positions[place] < end]

    async def next_offsets(self, topic: str, partitions: int) -> list[int]:
        """Return the next offset of each partition of any topic."""
        places = [TopicPartition(topic, number) for number in range(partitions)]
        ends = await self._consumer.end_offsets(places)
        return [ends[place] for place in places]


class RetrainingFollower:
    """Keeps the retraining log, up to the very end of its topic whenever asked."""

    def __init__(self, settings: Settings, log: RetrainingLog) -> None:
        """Assign the topic's one partition; nothing connects before `start`."""
        self._log = log
        self._decode = records.decoder_of(records.RetrainingRecord).decode
        self._place = TopicPartition(topics.RETRAINING.name, 0)
        self._position = 0
        self._settings = settings
        self._consumer: AIOKafkaConsumer = None
        self._asker: AIOKafkaConsumer = None
        """Asks for the topic's end on a connection of its own: on the other one the question would wait
        behind a fetch that waits for records."""

    async def start(self) -> None:
        """Connect."""
        self._consumer, self._asker = _consumer(self._settings), _consumer(self._settings)
        await asyncio.gather(self._consumer.start(), self._asker.start())
        self._consumer.assign([self._place])

    async def stop(self) -> None:
        """Disconnect."""
        if self._consumer is not None:
            await asyncio.gather(self._consumer.stop(), self._asker.stop())

    async def drain(self) -> None:
        """Read everything that was acknowledged before this call."""
        end = (await self._asker.end_offsets([self._place]))[self._place]
        while self._position < end:
            slices = await self._consumer.getmany(timeout_ms=100)
            for message in itertools.chain.from_iterable(slices.values()):
                self._position = message.offset + 1
                if message.value is not None:
                    self._log.add(self._decode(message.value))
