"""Writing one Delta table, each commit together with the Kafka positions that it reaches."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import structlog
from deltalake import CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake import Schema as DeltaSchema
from deltalake.exceptions import CommitFailedError
from kafka.errors import KafkaError

from services.archive.row_schemas import DecodedRecord, Partition, Table
from services.monitoring import inference_log
from services.runtime import metrics
from services.runtime.settings import Settings
from streams import repeats, topics

log = structlog.get_logger()

ATTEMPTS_MAX = 5
"""Maximum attempts per commit, when other members of the group commit at the same time."""
COMPACT_COMMITS = 100
"""Commits between two compactions: as often as Delta writes a checkpoint of its log."""
RETENTION_HOURS = 7 * 24
"""Files that a compaction replaced are kept for this time, for readers and for time travel; those of versions
that models were trained on are kept with the table."""
LOG_RETENTION = "delta.logRetentionDuration"
STATISTICS = "delta.dataSkippingStatsColumns"
"""The columns whose least and greatest values the log names, file by file. Integers alone: an id or a key in
the log would outlive its row by years, after the erasure of a subject."""
LOG_RETENTION_INTERVAL = "interval 3650 days"
"""Delta's log names the files of a version; with its default, versions older than 30 days cannot be read. An
entry has about 2 kB: half a gigabyte a year at a commit each two minutes."""

FindNamed = Callable[[str], list[int]]


class DeltaWriter:
    """Appends rows to one table, each row exactly once.

    A commit carries, for each Kafka partition, an application transaction whose version is the next
    offset. Rows and positions are therefore committed together or not at all. A writer that has lost a
    partition without noticing is refused: Delta does not let two concurrent commits write the same
    application transaction, and after any other commit the recorded positions are read again.

    A table written by an earlier version gains the new columns when it is opened, at the latest with the
    first commit (Delta merges the schemas); its old rows have null there.
    """

    def __init__(self, settings: Settings, table: Table, named: FindNamed = lambda _: []) -> None:
        """Open the table; create it if it does not exist.

        Args:
            settings: Where it is.
            table: Its columns.
            named: Returns the versions of a table whose files must stay.
        """
        self._table = table
        self._named = named
        self._settings = settings
        uri = inference_log.path(settings, table.name)
        if "://" not in uri:
            Path(uri).mkdir(parents=True, exist_ok=True)
        self._delta = DeltaTable.create(
            uri,
            schema=table.schema,
            mode="ignore",
            partition_by=[table.partition_by],
            name=table.name,
            configuration={
                LOG_RETENTION: LOG_RETENTION_INTERVAL,
                STATISTICS: ",".join(table.integer_columns),
            },
        )
        self._commits = 0
        self._sources: dict[Partition, int] = {}
        """The topics of the partitions, as numbers, see `note_source`."""
        self.add_new_columns()
        self._set_statistics()

    def _set_statistics(self) -> None:
        """Set the columns with statistics of an older table; after a conflict, the next start does it."""
        wanted = ",".join(self._table.integer_columns)
        if self._delta.metadata().configuration.get(STATISTICS) == wanted:
            return
        try:
            self._delta.alter.set_table_properties({STATISTICS: wanted})
        except CommitFailedError as error:
            log.info("archive.statistics_postponed", table=self._table.name, reason=str(error))

    def add_new_columns(self) -> None:
        """Add the declared columns that the table lacks; after a conflict the next commit adds them."""
        existing = {field.name for field in self._delta.schema().fields}
        declared = DeltaSchema.from_arrow(self._table.schema).fields
        if new := [field for field in declared if field.name not in existing]:
            try:
                self._delta.alter.add_columns(new)
            except CommitFailedError as error:
                log.info("archive.columns_postponed", table=self._table.name, reason=str(error))

    def position(self, partition: Partition) -> int:
        """Return the next offset of a Kafka partition that is not in the table yet."""
        self._delta.update_incremental()
        return self._recorded_position(partition)

    def note_source(self, partition: Partition, source: str) -> bool:
        """Take the digest of a partition's topic, in hexadecimal digits; the next commits record it.

        Return whether the table holds rows of another topic of that name. Call it after `position`.
        """
        if not source:
            return False
        number = int(source, 16)
        self._sources[partition] = number
        recorded = self._delta.transaction_version(_source_id(partition))
        return recorded is not None and recorded != number

    def reset(self, partition: Partition) -> None:
        """Forget the position of a partition whose topic was recreated: the table has none of its records."""
        self._delta.update_incremental()
        self.commit([], {partition: 0})

    def source_offsets(self, topic: str) -> dict[int, dict[str, dict[int, list[int]]]]:
        """Return the highest source offsets in the table, rising: more than `repeats.NEWEST_MAX`, or all.

        They are by partition of the topic, source topic and source partition.

        The repeat filters start from these after a restart. Reads three narrow columns once.
        """
        if not self._table.repeats:
            return {}
        self._delta.update_incremental()  # other members may have committed since
        model = topics.model_of(topic)
        columns = {field.name for field in self._delta.schema().fields}
        source = "coalesce(source, '')" if "source" in columns else "''"
        offsets: dict[int, dict[str, dict[int, list[int]]]] = {}
        with inference_log.connect(self._settings, {self._table.name: self._delta}) as connection:
            rows = connection.execute(
                f"SELECT partition, {source}, source_partition, max(source_offset, {repeats.NEWEST_MAX + 1}) "  # noqa: S608  # names of ours
                f"FROM {self._table.name} WHERE model = ? GROUP BY ALL ORDER BY max(source_offset)",
                [model],
            ).fetchall()
        for partition, source, source_partition, newest in rows:
            offsets.setdefault(partition, {}).setdefault(source, {})[source_partition] = newest[::-1]
        return offsets

    def append(self, rows: Sequence[DecodedRecord], positions: Mapping[Partition, int]) -> None:
        """Commit the rows that are not in the table yet, with the positions.

        Raises:
            CommitFailedError: Another member committed first in each of `ATTEMPTS_MAX` attempts.
        """
        for attempt in range(1, ATTEMPTS_MAX + 1):
            self._delta.update_incremental()
            recorded = {partition: self._recorded_position(partition) for partition in positions}
            new_rows = [
                r for r in rows if r.record.offset >= recorded.get((r.record.topic, r.record.partition), 0)
            ]
            advanced = {p: position for p, position in positions.items() if position > recorded[p]}
            if not advanced:
                return
            try:
                self.commit(new_rows, advanced)
            except CommitFailedError:
                if attempt == ATTEMPTS_MAX:
                    raise
                continue
            metrics.ARCHIVED_ROWS.labels(self._table.name).inc(len(new_rows))
            self._maintain()
            return

    def commit(self, rows: Sequence[DecodedRecord], positions: Mapping[Partition, int]) -> None:
        """Write rows and positions as one Delta version, on top of the version read last.

        Raises:
            CommitFailedError: Another writer has committed one of the partitions since then.
        """
        transactions = [
            Transaction(inference_log.transaction_id(topic, number), position)
            for (topic, number), position in sorted(positions.items())
        ]
        transactions += [
            Transaction(_source_id(partition), self._sources[partition])
            for partition in sorted(positions.keys() & self._sources.keys())
        ]
        write_deltalake(
            self._delta,
            self._table.batch(rows),
            mode="append",
            schema_mode="merge",
            writer_properties=WriterProperties(compression="ZSTD", compression_level=1),
            commit_properties=CommitProperties(app_transactions=transactions, max_commit_retries=0),
        )

    def _recorded_position(self, partition: Partition) -> int:
        return self._delta.transaction_version(inference_log.transaction_id(*partition)) or 0

    def _maintain(self) -> None:
        """Merge small files every `COMPACT_COMMITS` commits; after a conflict the next round does it."""
        self._commits += 1
        if self._commits % COMPACT_COMMITS:
            return
        try:
            self._delta.optimize.compact()
            kept = self._named(self._table.name)
            self._delta.vacuum(retention_hours=RETENTION_HOURS, dry_run=False, keep_versions=kept or None)
        except (CommitFailedError, KafkaError) as error:
            log.info("archive.compaction_postponed", table=self._table.name, reason=str(error))


def _source_id(partition: Partition) -> str:
    """Return the id of the application transaction whose version stands for a partition's topic."""
    return f"{inference_log.transaction_id(*partition)}@source"
