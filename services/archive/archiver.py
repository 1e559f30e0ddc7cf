"""From Kafka to the tables: who reads what, when a commit is due, and what is committed in which order."""

import asyncio
import re
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from services.archive.delta_writer import DeltaWriter
from services.archive.row_schemas import Table
from services.archive.write_buffer import Partition, WriteBuffer
from services.runtime import metrics
from services.runtime.settings import Settings
from streams import records, topics
from streams.codec import KafkaRecord

log = structlog.get_logger()

GROUP = "driftline.archive"
POLL_MS = 200
POLL_RECORDS_MAX = 10_000
SESSION_SECONDS = 15
"""After a kill its partitions wait so long; the loop is never busy for more than a second or two."""
METADATA_SECONDS = 2
"""A topic that is created later is found within this time."""


class Archiver(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    """Reads the topics as one member of a group and appends them to their tables.

    Delivery: rows and positions are one Delta commit; Kafka's offsets are committed after it, and only
    for the eye of lag monitors. After a crash, or when partitions move, reading resumes at the positions
    in the tables, so nothing is lost and nothing written twice.

    A commit is due by number, size or age of what is pending (see `services.archive.write_buffer`); and at
    once when a retraining is asked for and everything before its offsets has been read, because it waits.

    This reads with aiokafka: 286,000 records a second where kafka-python, with its checksums in Python,
    reads 22,000.
    """

    def __init__(self, settings: Settings, table_of: Mapping[str, Table]) -> None:
        """Prepare for these topics; nothing connects before `run`."""
        self._settings = settings
        self._pending = {table.name: WriteBuffer(table, _report) for table in table_of.values()}
        self._table_of = {topic: self._pending[table.name] for topic, table in table_of.items()}
        self._writers: dict[str, DeltaWriter] = {}
        self._demands: list[dict[Partition, int]] = []
        self._consumer: Any = None
        self._flushing = asyncio.Lock()
        self._assigned = False
        self._failure: Exception | None = None

    def not_ready(self) -> str | None:
        """Return why the process is not ready, or None."""
        return None if self._assigned else "waiting for partitions from the group"

    async def run(self, stopping: asyncio.Event) -> None:
        """Archive until the event is set; then commit what is pending and leave the group."""
        for pending in self._pending.values():
            self._writers[pending.table.name] = await asyncio.to_thread(
                DeltaWriter, self._settings, pending.table
            )
        self._consumer = AIOKafkaConsumer(
            **self._settings.kafka_options(),
            group_id=GROUP,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            metadata_max_age_ms=METADATA_SECONDS * 1000,
            session_timeout_ms=SESSION_SECONDS * 1000,
        )
        await self._consumer.start()
        # By pattern, because the request for topics by name creates those that do not exist.
        names = "|".join(re.escape(topic) for topic in (*self._table_of, topics.RETRAINING.name))
        self._consumer.subscribe(pattern=f"^({names})$", listener=self)
        log.info("archive.started", topics=sorted(self._table_of), root=self._settings.archive_root)
        try:
            while not stopping.is_set():
                await self._step()
            async with self._flushing:
                await self._flush_all()
        finally:
            await self._consumer.stop()
            log.info("archive.stopped")

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Commit everything before another member takes over."""
        self._assigned = False
        async with self._flushing:
            await self._guarded(self._give_up(revoked))

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Resume where the tables end."""
        async with self._flushing:
            await self._guarded(self._take_up(assigned))
        self._assigned = True

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """Carry a failure over to the loop: aiokafka would log it and read on from a wrong place."""
        try:
            await work
        except Exception as error:  # noqa: BLE001  # raised again by the loop
            self._failure = error

    async def _give_up(self, revoked: Iterable[TopicPartition]) -> None:
        await self._flush_all(offsets=False)
        for partition in revoked:
            if partition.topic in self._table_of:
                self._table_of[partition.topic].stop((partition.topic, partition.partition))

    async def _take_up(self, assigned: Iterable[TopicPartition]) -> None:
        by_topic: dict[str, list[TopicPartition]] = {}
        for partition in assigned:
            if partition.topic in self._table_of:
                by_topic.setdefault(partition.topic, []).append(partition)
        for topic, partitions in by_topic.items():
            await self._resume(topic, partitions)

    async def _resume(self, topic: str, partitions: Iterable[TopicPartition]) -> None:
        pending = self._table_of[topic]
        writer = self._writers[pending.table.name]
        last = await asyncio.to_thread(writer.last_source_offsets, topic)
        begins = await self._consumer.beginning_offsets(list(partitions))
        for partition in partitions:
            position = await asyncio.to_thread(writer.position, (topic, partition.partition))
            if position < begins[partition] and position:
                log.error(
                    "archive.records_expired",  # Kafka's retention is shorter than the archive was away
                    topic=topic,
                    partition=partition.partition,
                    lost_from=position,
                    lost_to=begins[partition],
                )
            pending.start((topic, partition.partition), position, last.get(partition.partition, {}))
            self._consumer.seek(partition, position)

    async def _step(self) -> None:
        if self._failure is not None:
            raise self._failure
        fetched = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=POLL_RECORDS_MAX)
        for partition, found in fetched.items():
            if partition.topic == topics.RETRAINING.name:
                await self._take_demands(found)
            else:
                self._table_of[partition.topic].add((partition.topic, partition.partition), found)
        # While partitions are being taken up nobody knows yet which of a demand's are ours.
        demanded = self._assigned and self._meet_demands()
        async with self._flushing:
            for pending in self._pending.values():
                if demanded or pending.due():
                    await self._flush(pending)

    async def _flush_all(self, *, offsets: bool = True) -> None:
        for pending in self._pending.values():
            await self._flush(pending, offsets=offsets)

    async def _flush(self, pending: WriteBuffer, *, offsets: bool = True) -> None:
        """Commit to Delta, then to Kafka. Nothing is added in between: the loop waits."""
        if not pending.uncommitted:
            return
        reached = {TopicPartition(*partition): offset for partition, offset in pending.positions.items()}
        await asyncio.to_thread(self._writers[pending.table.name].append, pending.rows, pending.positions)
        pending.committed()
        if offsets:
            await self._tell_kafka(reached)

    async def _tell_kafka(self, reached: Mapping[TopicPartition, int]) -> None:
        """Commit offsets, for monitors of lag only: a group that is just rebalancing may refuse them."""
        try:
            await self._consumer.commit(reached)
            for partition, offset in reached.items():
                lag = max(0, (self._consumer.highwater(partition) or offset) - offset)
                metrics.CONSUMER_LAG.labels("archive", partition.topic, str(partition.partition)).set(lag)
        except KafkaError as error:
            log.info("archive.offsets_not_committed", reason=str(error))

    async def _take_demands(self, found: Iterable[KafkaRecord]) -> None:
        """Remember up to where each request for retraining needs the tables.

        Only a hint to hurry, so its offsets are not committed: after a restart old requests are met at once.
        """
        decode = records.decoder_of(records.RetrainingRecord).decode
        for record in found:
            try:
                request = decode(record.value or b"")
            except ValueError as error:
                _report(record, str(error))
                continue
            if isinstance(request, records.RetrainingRequested):
                self._demands.append(_demand(request) or await self._ends())

    async def _ends(self) -> dict[Partition, int]:
        ours = [
            TopicPartition(*partition)
            for pending in self._pending.values()
            for partition in pending.positions
        ]
        return {(p.topic, p.partition): end for p, end in (await self._consumer.end_offsets(ours)).items()}

    def _meet_demands(self) -> bool:
        """Tell whether some demand is now read completely, and forget those that are."""
        positions = {key: at for pending in self._pending.values() for key, at in pending.positions.items()}
        left = [
            demand
            for demand in self._demands
            if any(positions.get(partition, offset) < offset for partition, offset in demand.items())
        ]
        met = len(left) < len(self._demands)
        self._demands = left
        return met


def _demand(request: records.RetrainingRequested) -> dict[Partition, int]:
    return {(topic, number): at for topic, ats in request.offsets.items() for number, at in enumerate(ats)}


def _report(record: KafkaRecord, reason: str) -> None:
    """Say that a record is not archived. Who reads the same topics to act on them dead-letters it."""
    log.error(
        "archive.record_invalid",
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        reason=reason,
    )
