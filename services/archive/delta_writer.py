"""Writing one Delta table, each commit together with the Kafka positions that it reaches."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog
from deltalake import CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake import Schema as DeltaSchema
from deltalake.exceptions import CommitFailedError

from services.archive.row_schemas import DecodedRecord, Table
from services.archive.write_buffer import Partition
from services.monitoring import inference_log
from services.runtime import metrics
from services.runtime.settings import Settings

log = structlog.get_logger()

ATTEMPTS_MAX = 5
"""Of one commit, when other members of the group commit at the same time."""
COMPACT_COMMITS = 100
"""A compaction after so many commits: as often as Delta writes a checkpoint of its log."""
RETENTION_HOURS = 7 * 24
"""Files that a compaction replaced are kept so long, for readers and for going back in time."""


class DeltaWriter:
    """Appends rows exactly once.

    A commit carries for each Kafka partition an application transaction whose version is the next
    offset. So rows and positions stand or fall together, and a writer that lost a partition without
    knowing is refused: Delta lets no two commits write the same application's transaction at once, and
    after any other commit the recorded positions are read again.
    """

    def __init__(self, settings: Settings, table: Table) -> None:
        """Open the table; create it if it is not there."""
        self._table = table
        self._settings = settings
        uri = inference_log.path(settings, table.name)
        if "://" not in uri:
            Path(uri).mkdir(parents=True, exist_ok=True)
        self._delta = DeltaTable.create(
            uri, schema=table.schema, mode="ignore", partition_by=[table.partition_by], name=table.name
        )
        known = {field.name for field in self._delta.schema().fields}
        if new := [field for field in DeltaSchema.from_arrow(table.schema).fields if field.name not in known]:
            self._delta.alter.add_columns(new)  # a table of an earlier version
        self._commits = 0

    def position(self, partition: Partition) -> int:
        """Return the offset before which the table holds everything of a Kafka partition."""
        self._delta.update_incremental()
        return self._recorded(partition)

    def last_source_offsets(self, topic: str) -> dict[int, dict[int, int]]:
        """Return by partition of the topic, and by source partition, the last source offset in the table.

        The repeat filters start from here after a restart. Reads three narrow columns once.
        """
        if not self._table.repeats:
            return {}
        model = topic.rpartition(".")[2]
        found: dict[int, dict[int, int]] = {}
        with inference_log.connect(self._settings, {self._table.name: self._delta}) as connection:
            rows = connection.execute(
                f"SELECT partition, source_partition, max(source_offset) FROM {self._table.name} "  # noqa: S608  # a name of ours
                "WHERE model = ? GROUP BY partition, source_partition",
                [model],
            ).fetchall()
        for partition, source_partition, offset in rows:
            found.setdefault(partition, {})[source_partition] = offset
        return found

    def append(self, rows: Sequence[DecodedRecord], positions: Mapping[Partition, int]) -> None:
        """Commit the rows that are not in the table yet, with the positions.

        Raises `CommitFailedError` when others commit in between every time.
        """
        for attempt in range(1, ATTEMPTS_MAX + 1):
            self._delta.update_incremental()
            recorded = {partition: self._recorded(partition) for partition in positions}
            fresh = [
                r for r in rows if r.record.offset >= recorded.get((r.record.topic, r.record.partition), 0)
            ]
            reached = {p: position for p, position in positions.items() if position > recorded[p]}
            if not reached:
                return
            try:
                self._write(fresh, reached)
            except CommitFailedError:
                if attempt == ATTEMPTS_MAX:
                    raise
                continue
            metrics.ARCHIVED_ROWS.labels(self._table.name).inc(len(fresh))
            self._maintain()
            return

    def _write(self, rows: Sequence[DecodedRecord], positions: Mapping[Partition, int]) -> None:
        transactions = [
            Transaction(inference_log.transaction_id(topic, number), position)
            for (topic, number), position in sorted(positions.items())
        ]
        write_deltalake(
            self._delta,
            self._table.batch(rows),
            mode="append",
            writer_properties=WriterProperties(compression="ZSTD", compression_level=1),
            commit_properties=CommitProperties(app_transactions=transactions, max_commit_retries=0),
        )

    def _recorded(self, partition: Partition) -> int:
        return self._delta.transaction_version(inference_log.transaction_id(*partition)) or 0

    def _maintain(self) -> None:
        """Join small files now and then; a conflict with another member leaves it to the next time."""
        self._commits += 1
        if self._commits % COMPACT_COMMITS:
            return
        try:
            self._delta.optimize.compact()
            self._delta.vacuum(retention_hours=RETENTION_HOURS, dry_run=False)
        except CommitFailedError as error:
            log.info("archive.compaction_postponed", table=self._table.name, reason=str(error))
