"""What Driftline uses of Faust beyond its documented interface, and nothing else.

Faust delivers single messages from a consumer in a separate thread, and commits what its streams have passed.
`streams.batches` needs whole partition slices, the event loop of the app, and commits that follow the work.
Faust has no interface for that, so a release may change what is used here without notice. Therefore
pyproject.toml pins one release of Faust, and tests/contract/test_faust_internals.py checks what is used.
"""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, cast

import faust
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.errors import IllegalStateError, KafkaError
from faust.topics import Topic
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage
from mode.utils.futures import maybe_async

from streams import aiokafka_internals, committed_offsets
from streams.batches import Lanes
from streams.slices import Slice, SliceCutter

log = structlog.get_logger()

UNASSIGNED_SECONDS = 0.1
"""Pause between two checks whether a partition has been assigned."""
FETCH_SECONDS, FETCH_SECONDS_HELD_BACK = 1.0, 0.01
"""How long a fetch waits for records. A partition that is no longer held back is fetched from the next round
on: while any is held back, rounds are short."""


TOPIC_CHECK_SECONDS = 10.0
"""Time between two checks whether a topic was recreated; it is also checked at each assignment."""


class TopicWatcher(Protocol):
    """Compares topics with those at the start of a group; see `services.runtime.topic_watch.TopicWatch`."""

    @property
    def ids(self) -> Mapping[str, str]:
        """Id of each topic at the start; without those that had none."""

    async def recreated(self) -> Sequence[str]:
        """Return the topics that have another id now."""


class BatchApp(faust.App):
    """An app whose consumer works on lanes of slices."""

    lanes: Lanes
    callbacks: Sequence[Callable[[], Awaitable[None]]] = ()
    """Awaited when partitions leave, once the slices in process are finished and committed."""
    watch: TopicWatcher | None = None
    recreated: Sequence[str] = ()
    """The topics that were recreated since the start of the group: offsets of them mean other records now."""

    async def let_go(self) -> None:
        """Await all callbacks."""
        await asyncio.gather(*(callback() for callback in self.callbacks))

    async def watch_topics(self) -> None:
        """Check the topics every `TOPIC_CHECK_SECONDS` until one was recreated."""
        while self.watch is not None and not self.recreated:
            await asyncio.sleep(TOPIC_CHECK_SECONDS)
            await self.check_topics()

    async def check_topics(self) -> Sequence[str]:
        """Note and return the topics that were recreated since the start of the group."""
        if self.watch is not None and not self.recreated:
            try:
                self.recreated = await self.watch.recreated()
            except Exception as error:  # noqa: BLE001  # the next check must happen whatever fails
                log.warning("consumer.topics_not_checked", error=repr(error))
            if self.recreated:
                log.warning("consumer.topic_recreated", group=self.conf.id, topics=list(self.recreated))
        return self.recreated

    def id_of(self, topic: str) -> str:
        """Return the id of a topic at the start of the group; empty if it is unknown."""
        return "" if self.watch is None else self.watch.ids.get(topic, "")

    def _create_directories(self) -> None:
        """Create none: there are no tables."""


class InLoopConsumer(driver.AIOKafkaConsumerThread):
    """Faust's consumer thread without the thread: all of it happens in the event loop of the app.

    Faust reads in a thread with a separate loop, so that handlers that block do not delay heartbeats. Here no
    handler blocks for long: models and files have their own threads. The thread would cost two
    hand-overs between loops at each fetch, each of which waits for Python's lock and for a core (see
    docs/decisions/0019-one-loop.md).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Use the running loop as the loop of the thread."""
        super().__init__(*args, thread_loop=asyncio.get_running_loop(), **kwargs)
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect and join the group; raise what either raises."""
        self._thread_started.set()
        running = self._thread_running = self.parent_loop.create_future()
        self._serving = asyncio.create_task(self._serve(), name="consumer")
        await asyncio.wait([running, self._serving], return_when=asyncio.FIRST_COMPLETED)
        self._thread_running = None
        if self._serving.done():
            await self._serving
        await running

    async def call_thread(self, fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function of the client, whether it is a coroutine or not."""
        return await maybe_async(fun(*args, **kwargs))

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        """Read only what transactions have committed; commit the ids of topics.

        Faust does the first only for exactly-once apps, and commits no text with offsets.
        """
        consumer = super()._create_worker_consumer(transport)
        aiokafka_internals.read_committed(consumer)
        aiokafka_internals.commit_with(
            consumer, lambda topic: committed_offsets.text_of(self._batch_app.id_of(topic))
        )
        return consumer

    @property
    def _batch_app(self) -> BatchApp:
        return cast("BatchApp", self.app)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek to the committed offsets; to the start where an offset is of a topic that was deleted.

        The offset of such a partition is 0 in what is returned, so that offsets below it are committed.
        Nothing is read of topics that were recreated since the start of the group: its owner starts another.
        """
        offsets = await super().seek_to_committed()
        recreated = await self._batch_app.check_topics()
        self._ensure_consumer().pause(*(tp for tp in offsets if tp.topic in recreated))
        former = await self._of_former_topics([tp for tp, offset in offsets.items() if offset])
        for tp in former:
            log.warning(
                "consumer.offset_reset",
                topic=tp.topic,
                partition=tp.partition,
                committed=offsets[tp],
                reason="it is of a topic that was deleted and recreated, which is read from its start",
            )
            self._ensure_consumer().seek(tp, 0)  # or from where retention has left records
        return {**offsets, **dict.fromkeys(former, 0)}

    async def _of_former_topics(self, partitions: Sequence[TP]) -> list[TP]:
        """Return the partitions whose committed offset is of a former topic.

        Where ids do not tell, it is one if the log ends before it.
        """
        consumer = self._ensure_consumer()
        committed = await aiokafka_internals.committed(consumer, partitions)
        is_of = {
            tp: committed_offsets.is_of(found.metadata, self._batch_app.id_of(tp.topic))
            for tp, found in committed.items()
        }
        unknown = [tp for tp, answer in is_of.items() if answer is None]
        try:
            ends = await consumer.end_offsets(unknown) if unknown else {}
        except KafkaError as error:  # for example of a topic that is deleted now
            log.warning("consumer.ends_unknown", error=repr(error))
            ends = {}
        beyond = {tp for tp, end in ends.items() if committed[tp].offset > end}
        return [tp for tp, answer in is_of.items() if answer is False or tp in beyond]

    def highwater(self, tp: TP) -> int:
        """Return the end of what can be read: records of open transactions are beyond it."""
        offset: int = self._ensure_consumer().last_stable_offset(tp)
        return offset

    async def _gather_remaining_tasks(self) -> None:
        """Wait for no other tasks: in a thread they would be the client's, in this loop they are not."""


_Records = Mapping[TP, Sequence[ConsumerRecord]]


@dataclasses.dataclass(frozen=True, slots=True)
class _Fetched:
    records: _Records
    generation_id: int


class BatchConsumer(driver.Consumer):
    """Faust's consumer with its own thread, fetch loop, acknowledgements and commits."""

    app: Any
    lanes: Lanes

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Use the lanes of the app."""
        super().__init__(*args, **kwargs)
        self.lanes = self.app.lanes
        self._cutter = SliceCutter(self.lanes.expect)

    def positions(self) -> dict[TP, int]:
        """Return for each assigned partition the offset that was committed last, 0 for none."""
        return {tp: self._committed_offset.get(tp) or 0 for tp in self.assignment()}

    def _new_consumer_thread(self) -> InLoopConsumer:
        return InLoopConsumer(self, loop=self.loop, beacon=self.beacon)

    async def _drain_messages(self, fetcher: Any) -> None:
        fetching: asyncio.Task[_Fetched] | None = None
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):  # as Faust's own loop
                waiting = self._hold_back_full_lanes()
                if fetching is None:
                    if waiting and not (self.lanes.has_room and self._get_active_partitions()):
                        await self.lanes.wait_for_release(1.0)
                        continue
                    fetching = asyncio.create_task(
                        self._fetch(FETCH_SECONDS_HELD_BACK if waiting else FETCH_SECONDS)
                    )
                fetched = await fetching
                fetching = None
                if self.should_stop:
                    continue
                generation_id = self.app.consumer_generation_id
                if fetched.generation_id != generation_id or not self.flow_active:
                    continue  # fetched before a rebalance, which resets all positions
                records = self._without_gaps(fetched.records)
                if not records:
                    continue
                if not waiting:  # start the next fetch before these records are delivered
                    fetching = asyncio.create_task(self._fetch(FETCH_SECONDS))
                # All at once, before any wait: a rebalance in between clears what is noted.
                for slices in self._cutter.cut(records, self.highwater):
                    await self._deliver(slices, generation_id)
        finally:
            if fetching is not None:
                fetching.cancel()

    async def _fetch(self, timeout_seconds: float) -> _Fetched:
        """Fetch records, together with the generation of the group at the moment of the fetch."""
        if not self.flow_active:
            await self.wait(self.can_resume_flow)  # type: ignore[arg-type]  # any event will do
        active = self._get_active_partitions()
        if not active:
            await self.sleep(UNASSIGNED_SECONDS)
            return _Fetched({}, self.app.consumer_generation_id)
        records = await self._getmany(active_partitions=active, timeout=timeout_seconds)
        if records and not self.flow_active:  # these may be of the next assignment
            self._cutter.clear()
            for tp, of_partition in records.items():
                _read_again(self._thread, tp, of_partition[0].offset)
            records = {}
        return _Fetched(records, self.app.consumer_generation_id)

    def _without_gaps(self, fetched: _Records) -> _Records:
        """Read again what did not reach its lane; called while no fetch is in progress."""
        gaps = self.lanes.take_gaps()
        for tp, offset in gaps.items():
            log.warning("consumer.gap", topic=tp.topic, partition=tp.partition, offset=offset)
            self._cutter.restart(tp, offset)
            _read_again(self._thread, tp, offset)
        return {tp: records for tp, records in fetched.items() if tp not in gaps} if gaps else fetched

    def _hold_back_full_lanes(self) -> bool:
        """Fetch only from partitions whose lane has room; return whether any partition is held back."""
        for tp in [tp for tp in self._buffered_partitions if not self.lanes.is_full(tp)]:
            self.on_buffer_drop(tp)
        for tp in [tp for tp in self._get_active_partitions() if self.lanes.is_full(tp)]:
            self.on_buffer_full(tp)
        return bool(self._buffered_partitions) or not self.lanes.has_room

    async def _deliver(self, slices: Sequence[Slice], generation_id: int) -> None:
        """Deliver the slices of one topic as one message, with metadata of the first slice's last record."""
        first = slices[0]
        last = first.records[-1]
        message = ConsumerMessage(
            first.topic,
            first.partition,
            last.offset,
            last.timestamp / 1000.0,
            last.timestamp_type,
            [],
            last.key,
            cast("Any", slices),  # the value that the stream will see, instead of bytes
            last.checksum,
            last.serialized_key_size,
            last.serialized_value_size,
            TP(first.topic, first.partition),
            generation_id=generation_id,
        )
        await self.wait_first(self.callback(message), self.suspend_flow.wait())
        for slice_ in slices:
            self._read_offset[TP(slice_.topic, slice_.partition)] = slice_.records[-1].offset

    def ack(self, message: Any) -> bool:
        """Note that Faust's stream has passed the slices. Commits follow the lanes, not this."""
        message.acked = True
        self._unacked_messages.discard(message)
        return True

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        chosen = (tp for tp, _ in self.lanes.committable())
        return (tp for tp in chosen if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        return dict(self.lanes.committable()).get(tp)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Wait a bounded time for slices being handled, commit, release; Faust revokes all partitions.

        The flow is suspended first, and the lanes stay closed until the next assignment: a slice that is
        still on its way to its lane must not be handled, because the slices before it may be dropped here.
        """
        self.stop_flow()
        self.app.flow_control.suspend()
        await self.lanes.close()
        await self.commit()
        self.lanes.forget()
        self._cutter.clear()
        await self.app.let_go()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Accept slices again: those of earlier generations are refused by their generation."""
        self.lanes.open()
        await super().on_partitions_assigned(assigned, generation_id)

    async def on_stop(self) -> None:
        """Wait a bounded time for slices being handled, and commit."""
        await self.lanes.close()
        await super().on_stop()

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Skip Faust's stall detector, which watches single messages: lag and retries are metrics here."""


def _read_again(client: Any, tp: TP, offset: int) -> None:
    try:
        client.seek(tp, offset)
    except IllegalStateError as error:  # it is no longer assigned
        log.info("consumer.seek_failed", error=repr(error))


class BatchTransport(driver.Transport):
    """Faust's aiokafka transport with `BatchConsumer`."""

    Consumer = BatchConsumer


class BatchTopic(Topic):
    """A topic whose events hold slices; nothing is decoded."""

    async def decode(self, message: Any, *, propagate: bool = False) -> Any:  # noqa: ARG002  # Faust's signature
        """Wrap the slices without decoding them."""
        return self._create_event(message.key, message.value, {}, message=message)
