"""Reads topics as a member of a consumer group and decides when their tables are committed."""

import asyncio
import re
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from services.archive.guarded_tables import GuardedTables
from services.archive.idle_offsets import IdleOffsets
from services.archive.invalid_records import InvalidRecords, LetterWriter
from services.archive.required_offsets import RequiredOffsets, decoded_requests, required_by
from services.archive.row_schemas import Partition, Table
from services.archive.table_archive import TableArchive
from services.runtime import metrics, topic_identity
from services.runtime.kafka_consumers import COMMITTED
from services.runtime.quarantine import Quarantine
from services.runtime.settings import Settings
from services.runtime.topic_watch import FindIds, TopicWatch
from streams import topics
from streams.aiokafka_internals import stop_consumer
from streams.codec import KafkaRecord

log = structlog.get_logger()

GROUP = "driftline.archive"
POLL_MS = 200
POLL_RECORDS_MAX = 10_000
SESSION_SECONDS = 15
"""Session timeout of the consumer group: partitions of a killed member move after this time. The loop is
never busy for more than a second or two."""
METADATA_SECONDS = 2
"""Maximum age of the topic list: a topic that is created later is found within this time."""


class Archiver(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    """Reads topics as one member of a consumer group and appends their records to the tables.

    Delivery: rows and positions are one Delta commit. Kafka's offsets are committed after it, for lag
    monitoring only (`services.archive.idle_offsets`). After a crash, or when partitions move, reading resumes
    at the positions in the tables, so no record is lost and none is written twice. So it does for a table
    that was set aside.

    A commit is due by rows, bytes or age of what is buffered (see `services.archive.write_buffer`), and at
    once when a retraining is requested and every record before its offsets has been read, because the
    retraining waits for it.

    This reads with aiokafka: 286,000 records/s, where kafka-python, whose checksums are in Python, reads
    22,000.
    """

    def __init__(
        self,
        settings: Settings,
        table_of: Mapping[str, Table],
        consumer: Any,
        writer: LetterWriter,
        quarantine: Quarantine,
        topic_ids: FindIds,
    ) -> None:
        """Archive topics to their tables.

        Args:
            settings: Where the tables are.
            table_of: The table of each topic.
            consumer: Reads the topics; it is not started yet.
            writer: Writes the dead letters.
            quarantine: The quarantine of the tables; it outlives this archiver.
            topic_ids: Tells whether a topic was recreated.
        """
        self._watch = TopicWatch(topic_ids)
        self._read_again: dict[TopicPartition, tuple[int, int]] = {}
        """Where a gap began and ended that was read again, by partition."""
        self._settings = settings
        self._table_of = table_of
        self._consumer = consumer
        self._tables = GuardedTables(settings, table_of, InvalidRecords(writer), quarantine)
        self._required = RequiredOffsets()
        self._idle = IdleOffsets(consumer)
        self._committing = asyncio.Lock()
        self._assigned = False
        self._failure: Exception | None = None

    def not_ready(self) -> str | None:
        """Return why the process is not ready, or None."""
        if not self._assigned:
            return "waiting for partitions from the consumer group"
        return "all tables are set aside" if self._tables.all_set_aside else None

    async def run(self, stopping: asyncio.Event) -> None:
        """Archive until the event is set; then commit what is buffered and leave the group."""
        await self.open_tables()
        await self._consumer.start()
        # By pattern, because the request for topics by name creates those that do not exist.
        names = "|".join(re.escape(topic) for topic in (*self._table_of, topics.RETRAINING.name))
        self._consumer.subscribe(pattern=f"^({names})$", listener=self)
        log.info("archive.started", topics=sorted(self._table_of), root=self._settings.archive_root)
        try:
            while not stopping.is_set():
                await self.step()
            async with self._committing:
                await self._commit(self._tables)
        finally:
            await stop_consumer(self._consumer)
            log.info("archive.stopped")

    async def open_tables(self) -> None:
        """Open the tables, create those that do not exist; a table that cannot be opened is set aside."""
        await self._tables.open_due()

    async def step(self) -> None:
        """Read one batch of records, then commit each table that is due.

        Raises the error of a rebalance that failed.
        """
        if self._failure is not None:
            raise self._failure
        await self._resume_tables()
        await self._watch.check_due()
        fetched = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=POLL_RECORDS_MAX)
        for partition, batch in fetched.items():
            if partition.topic == topics.RETRAINING.name:
                await self._add_requests(batch)
            elif (table := self._tables.of_topic(partition.topic)) is None:
                continue  # it was set aside while its records were being fetched
            elif not await self._reads_gap_again(table, partition, batch[0].offset):
                table.buffer.add((partition.topic, partition.partition), batch)
        # Until the partitions are assigned, it is not known which of a request's partitions are read here.
        retraining_waits = self._assigned and self._required.remove_reached(positions_of(self._tables))
        async with self._committing:
            await self._commit(
                table
                for table in self._tables
                if retraining_waits or table.buffer.due() or self._tables.is_doubted(table)
            )
            if self._assigned and self._idle.is_due():
                changed = await self._idle.changed(idle_positions_of(self._tables))
                await commit_offsets(self._consumer, changed, self._idle)

    async def _resume_tables(self) -> None:
        """Open the tables that are due, and read on where they end; pause those that are set aside."""
        for table in await self._tables.open_due():
            async with self._committing:
                topic_names = self._tables.topics(table.name)
                mine = [each for each in self._consumer.assignment() if each.topic in topic_names]
                await self._start_partitions(mine)
                self._consumer.resume(*mine)
        aside = {
            each
            for each in self._consumer.assignment()
            if each.topic in self._table_of and self._tables.of_topic(each.topic) is None
        }
        if to_pause := aside - self._consumer.paused():
            self._consumer.pause(*to_pause)

    async def _reads_gap_again(self, table: TableArchive, partition: TopicPartition, start: int) -> bool:
        """Seek back if a fetch begins after the position; return whether it did.

        The consumer jumps ahead when it loses its position. Offsets without records (transactions,
        compaction, retention) look the same, so a gap that is there again is accepted.
        """
        position = table.buffer.positions.get(tuple(partition), start)
        if start <= position or self._read_again.get(partition) == (position, start):
            return False
        self._read_again[partition] = position, start
        starts = await self._consumer.beginning_offsets([partition])
        if starts[partition] > position:
            log.error(
                "archive.records_expired",
                topic=partition.topic,
                partition=partition.partition,
                lost_from=position,
                lost_to=starts[partition],
            )
        seek(self._consumer, partition, position)
        return True

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Commit what is buffered before another member reads these partitions."""
        self._assigned = False
        async with self._committing:
            await self._keep_failure(self._stop_partitions(revoked))

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Resume at the positions in the tables."""
        async with self._committing:
            await self._keep_failure(self._start_partitions(assigned))
        self._idle.forget()
        self._assigned = True

    async def _keep_failure(self, work: Coroutine[Any, Any, None]) -> None:
        """Keep an error for `step`: aiokafka would log it and continue reading from a wrong offset."""
        try:
            await work
        except Exception as error:  # noqa: BLE001  # raised again by `step`
            self._failure = error

    async def _stop_partitions(self, revoked: Iterable[TopicPartition]) -> None:
        await self._commit(self._tables, kafka_offsets=False)
        for partition in revoked:
            if partition.topic in self._table_of and (table := self._tables.of_topic(partition.topic)):
                table.buffer.stop((partition.topic, partition.partition))

    async def _start_partitions(self, assigned: Iterable[TopicPartition]) -> None:
        """Start partitions where their tables end; pause those whose table is set aside."""
        by_topic: dict[str, list[TopicPartition]] = {}
        for partition in assigned:
            if partition.topic in self._table_of:
                by_topic.setdefault(partition.topic, []).append(partition)
        ids = await self._watch.start(by_topic)
        sources = {
            topic: topic_identity.source_of(topic_identity.identity(topic, found))
            for topic, found in ids.items()
        }
        # Of all topics at once: each request may wait for a fetch on the same connection, for half a second.
        wanted = [partition for partitions in by_topic.values() for partition in partitions]
        starts = await self._consumer.beginning_offsets(wanted)
        ends = await self._consumer.end_offsets(wanted)
        behind: set[str] = set()
        for topic, partitions in by_topic.items():
            table = self._tables.of_topic(topic)
            if table is not None and await self._start_topic(
                table,
                sources.get(topic, ""),
                {partition: starts[partition] for partition in partitions},
                {partition: ends[partition] for partition in partitions},
            ):
                behind.add(table.name)
        for table in self._tables:
            if self._tables.is_doubted(table) and table.name not in behind:
                self._tables.works(table)

    async def _start_topic(
        self,
        table: TableArchive,
        source: str,
        starts: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
    ) -> bool:
        """Start partitions of one topic; return whether there are records to read."""
        (topic,) = {partition.topic for partition in starts}
        positions = await self._tables.attempt(
            table,
            table.start(
                topic,
                {partition.partition: offset for partition, offset in starts.items()},
                {partition.partition: offset for partition, offset in ends.items()},
                source,
            ),
        )
        if positions is None:
            return False
        for partition in starts:
            seek(self._consumer, partition, positions[partition.partition])
        return any(positions[each.partition] < end for each, end in ends.items())

    async def _commit(self, tables: Iterable[TableArchive], *, kafka_offsets: bool = True) -> None:
        """Commit to Delta, then to Kafka. Nothing is added in between: the loop waits."""
        due = [table for table in tables if table.buffer.uncommitted]
        if due:
            await self._watch.check()
        for table in due:
            positions = await self._tables.attempt(table, table.commit())
            if positions is None:
                continue
            self._tables.works(table)
            if kafka_offsets:
                await commit_offsets(self._consumer, positions, self._idle)

    async def _add_requests(self, batch: Iterable[KafkaRecord]) -> None:
        """Remember the offsets that each request for retraining needs in the tables.

        A request only makes a commit earlier, so its offset is not committed: after a restart old requests
        are read again and count as reached at once.
        """
        for request in decoded_requests(batch):
            required = required_by(request)
            self._required.add(required or await end_offsets(self._consumer, positions_of(self._tables)))


def connect(settings: Settings) -> AIOKafkaConsumer:
    """Return the consumer of the archive's group, not started yet; call it in the event loop."""
    return AIOKafkaConsumer(
        **settings.kafka_options(),
        group_id=GROUP,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level=COMMITTED,
        metadata_max_age_ms=METADATA_SECONDS * 1000,
        session_timeout_ms=SESSION_SECONDS * 1000,
    )


def seek(consumer: Any, partition: TopicPartition, position: int) -> None:
    """Let a consumer read a partition from a position, unless it was revoked during a call before."""
    if partition in consumer.assignment():
        consumer.seek(partition, position)


def positions_of(tables: Iterable[TableArchive]) -> dict[Partition, int]:
    """Return the next offset to read of each partition of these tables."""
    return {p: offset for table in tables for p, offset in table.buffer.positions.items()}


def idle_positions_of(tables: Iterable[TableArchive]) -> dict[Partition, int]:
    """Return the positions of the partitions from which nothing waits for a commit."""
    return {p: offset for table in tables for p, offset in table.buffer.idle_positions.items()}


async def end_offsets(consumer: Any, partitions: Iterable[Partition]) -> dict[Partition, int]:
    """Return the end of each partition."""
    ends = await consumer.end_offsets([TopicPartition(*partition) for partition in partitions])
    return {(partition.topic, partition.partition): end for partition, end in ends.items()}


async def commit_offsets(consumer: Any, positions: Mapping[Partition, int], idle: IdleOffsets) -> None:
    """Commit offsets to Kafka for lag monitoring only; a group that is rebalancing may refuse them."""
    if not positions:
        return
    offsets = {TopicPartition(*partition): offset for partition, offset in positions.items()}
    try:
        await consumer.commit(offsets)
        idle.note(positions)
        for partition in offsets.keys() & consumer.assignment():  # others were revoked
            offset = offsets[partition]
            lag = max(0, (consumer.highwater(partition) or offset) - offset)
            metrics.CONSUMER_LAG.labels("archive", partition.topic, str(partition.partition)).set(lag)
    except KafkaError as error:
        log.info("archive.offsets_not_committed", reason=str(error))
