"""When the archiver commits: a scripted consumer and a real Delta table."""

import asyncio
import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition

from services.archive import idle_offsets, row_schemas
from services.archive.archiver import Archiver
from services.monitoring import inference_log
from services.runtime import quarantine as quarantine_module
from services.runtime.quarantine import Quarantine
from services.runtime.settings import Settings
from services.runtime.topic_identity import TopicRecreatedError
from streams import records, topics
from tests.unit.archive.kafka_records import TOPIC, MemoryLetters, Record, outcome

REQUEST = records.encode(
    records.RetrainingRequested(
        request_id="r", model="m", trigger="manual", requested_at_ms=0, reason="a test", offsets={TOPIC: [2]}
    )
)


class ScriptedConsumer:
    """Returns one prepared batch for each poll."""

    def __init__(self, *batches: dict[TopicPartition, Sequence[Any]]) -> None:
        self._batches = list(batches)
        self.committed: dict[TopicPartition, int] = {}
        self.sought: list[int] = []
        self.paused_now: set[TopicPartition] = set()
        self.position_now = 0

    async def getmany(self, **_: Any) -> dict[TopicPartition, Sequence[Any]]:
        return self._batches.pop(0)

    async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 2)

    def assignment(self) -> set[TopicPartition]:
        return {OUTCOMES, REQUESTS}

    def paused(self) -> set[TopicPartition]:
        return self.paused_now

    def pause(self, *partitions: TopicPartition) -> None:
        self.paused_now |= set(partitions)

    def resume(self, *partitions: TopicPartition) -> None:
        self.paused_now -= set(partitions)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.sought.append(offset)

    async def commit(self, offsets: dict[TopicPartition, int]) -> None:
        self.committed |= offsets

    def highwater(self, partition: TopicPartition) -> None: ...

    async def position(self, partition: TopicPartition) -> int:
        assert partition == OUTCOMES
        return self.position_now


OUTCOMES, REQUESTS = TopicPartition(TOPIC, 0), TopicPartition(topics.RETRAINING.name, 0)
ROWS = [Record(0, outcome(0)), Record(1, outcome(1))]
OLD_ROWS = [Record(offset, outcome(offset, source="old")) for offset in range(2)]
NEW_ROWS = [Record(offset, outcome(offset, source="new")) for offset in range(3)]


def archiver_of(
    settings: Settings,
    consumer: ScriptedConsumer,
    *,
    writer: MemoryLetters | None = None,
    table: row_schemas.Table = row_schemas.OUTCOMES,
    quarantine: Quarantine | None = None,
    ids: Sequence[str] = ("",),
    archived_topics: Sequence[str] = (TOPIC,),
) -> Archiver:
    """Return an archiver; ``ids`` are those of the topic at the looks for it, the last one for all others."""
    left = list(ids)
    return Archiver(
        settings,
        dict.fromkeys(archived_topics, table),
        consumer,
        writer or MemoryLetters(),
        quarantine or Quarantine("archive", "table"),
        lambda names: dict.fromkeys(names, left.pop(0) if len(left) > 1 else left[0]),
    )


def archived(settings: Settings) -> int:
    """Return the position of the table."""
    return inference_log.positions(settings, "outcomes", {TOPIC: [0]})[TOPIC][0]


def test_a_request_read_before_the_assignment_is_met_once_its_records_are_read(tmp_path: Path) -> None:
    """The rows are committed at once when they are read, not when they are a minute old."""
    settings = Settings(home=tmp_path)
    consumer = ScriptedConsumer({REQUESTS: [Record(0, REQUEST)]}, {OUTCOMES: ROWS[:1]}, {OUTCOMES: ROWS[1:]})
    archiver = archiver_of(settings, consumer)

    async def positions_after_each_step() -> list[int]:
        await archiver.open_tables()
        await archiver.step()
        await archiver.on_partitions_assigned([OUTCOMES, REQUESTS])
        reached = []
        for _ in range(2):
            await archiver.step()
            reached.append(archived(settings))
        return reached

    assert asyncio.run(positions_after_each_step()) == [0, 2]
    assert consumer.committed == {OUTCOMES: 2}


def test_a_request_without_offsets_needs_all_records_up_to_the_ends(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    anywhere = records.encode(
        records.RetrainingRequested(
            request_id="r", model="m", trigger="manual", requested_at_ms=0, reason="a test"
        )
    )
    consumer = ScriptedConsumer({OUTCOMES: ROWS[:1]}, {REQUESTS: [Record(0, anywhere)]}, {OUTCOMES: ROWS[1:]})
    archiver = archiver_of(settings, consumer)

    async def positions_after_each_step() -> list[int]:
        await archiver.open_tables()
        await archiver.on_partitions_assigned([OUTCOMES, REQUESTS])
        reached = []
        for _ in range(3):
            await archiver.step()
            reached.append(archived(settings))
        return reached

    assert asyncio.run(positions_after_each_step()) == [0, 0, 2]


def test_rows_are_committed_before_a_partition_is_revoked(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    consumer = ScriptedConsumer({OUTCOMES: ROWS})
    archiver = archiver_of(settings, consumer)

    async def read_and_revoke() -> None:
        await archiver.open_tables()
        await archiver.on_partitions_assigned([OUTCOMES])
        assert archiver.not_ready() is None
        await archiver.step()
        assert archived(settings) == 0
        await archiver.on_partitions_revoked([OUTCOMES])

    asyncio.run(read_and_revoke())
    assert archived(settings) == 2
    assert consumer.committed == {}  # a group that is rebalancing may refuse offsets
    assert archiver.not_ready()


def test_the_offsets_of_all_topics_are_requested_together(tmp_path: Path) -> None:
    """A request waits behind a fetch on its connection: two for each topic would take a second for each."""
    requested: list[int] = []

    class CountingConsumer(ScriptedConsumer):
        async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
            requested.append(len(partitions))
            return await super().beginning_offsets(partitions)

        async def end_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
            requested.append(len(partitions))
            return await super().end_offsets(partitions)

    names = [f"driftline.outcomes.m{number}" for number in range(9)]
    archiver = archiver_of(Settings(home=tmp_path), CountingConsumer(), archived_topics=names)

    async def assign() -> None:
        await archiver.open_tables()
        await archiver.on_partitions_assigned([TopicPartition(name, 0) for name in names])

    asyncio.run(assign())
    assert requested == [len(names)] * 2
    assert archiver.not_ready() is None


def test_a_failed_rebalance_ends_the_loop(tmp_path: Path) -> None:
    """The client only logs an error of its listener, and would read on from a wrong offset."""

    class UnreachableBroker(ScriptedConsumer):
        async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
            raise OSError("no broker")

    archiver = archiver_of(Settings(home=tmp_path), UnreachableBroker({}))

    async def rebalance() -> None:
        await archiver.open_tables()
        await archiver.on_partitions_assigned([OUTCOMES])
        await archiver.step()

    with pytest.raises(OSError, match="no broker"):
        asyncio.run(rebalance())


def test_a_gap_before_a_fetch_is_read_again_and_accepted_if_it_is_still_there(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    later = [Record(5, outcome(5))]
    consumer = ScriptedConsumer({OUTCOMES: later}, {OUTCOMES: ROWS}, {OUTCOMES: later}, {OUTCOMES: later})
    archiver = archiver_of(settings, consumer)

    async def read() -> None:
        await archiver.open_tables()
        await archiver.on_partitions_assigned([OUTCOMES])
        for _ in range(4):
            await archiver.step()
        await archiver.on_partitions_revoked([OUTCOMES])

    asyncio.run(read())
    assert consumer.sought == [0, 0, 2], "the start, the jump to 5 from 0, the jump to 5 from 2"
    assert archived(settings) == 6


def test_a_record_that_cannot_be_archived_is_a_dead_letter_and_its_neighbours_are_archived(
    tmp_path: Path,
) -> None:
    """One cannot be decoded, one is decoded and does not fit the type of its column."""
    settings, writer = Settings(home=tmp_path), MemoryLetters()
    source = next(column for column in row_schemas.OUTCOMES.columns if column.name == "source")
    unfit = source._replace(read=lambda row: 7 if row.record.offset == 3 else None)
    table = dataclasses.replace(
        row_schemas.OUTCOMES,
        columns=[unfit if column is source else column for column in row_schemas.OUTCOMES.columns],
    )
    batch = [*ROWS, Record(2, b"{"), Record(3, outcome(3)), Record(4, outcome(4))]
    consumer = ScriptedConsumer({OUTCOMES: batch})
    archiver = archiver_of(settings, consumer, writer=writer, table=table)

    async def read() -> None:
        await archiver.open_tables()
        await archiver.on_partitions_assigned([OUTCOMES])
        await archiver.step()
        await archiver.on_partitions_revoked([OUTCOMES])

    asyncio.run(read())
    assert archived(settings) == 5
    assert [(letter.offset, letter.kind) for letter in writer.letters] == [(2, "invalid"), (3, "defect")]
    assert writer.letters[1].value == outcome(3)
    with inference_log.connect(settings) as connection:
        rows = connection.execute("SELECT source_offset FROM outcomes ORDER BY 1").fetchall()
    assert rows == [(0,), (1,), (4,)]


def test_a_table_that_cannot_be_opened_is_set_aside_and_read_from_its_end_once_it_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, quarantine = Settings(home=tmp_path), Quarantine("archive", "table")
    log_file = tmp_path / "archive" / "outcomes" / "_delta_log" / "00000000000000000000.json"
    log_file.parent.mkdir(parents=True)
    log_file.write_text("{garbage")
    consumer = ScriptedConsumer({}, {OUTCOMES: ROWS}, {}, {OUTCOMES: ROWS})
    archiver = archiver_of(settings, consumer, quarantine=quarantine)
    monkeypatch.setattr(quarantine_module, "RETRY_SECONDS_MIN", 0.0)

    async def read() -> None:
        await archiver.open_tables()
        await archiver.on_partitions_assigned([OUTCOMES])
        assert archiver.not_ready() == "all tables are set aside"
        await archiver.step()
        await archiver.step()
        assert consumer.paused_now == {OUTCOMES}
        (reason,) = quarantine.detail()["tables_set_aside"].values()  # type: ignore[attr-defined]
        assert reason.startswith("table outcomes: DeltaError")
        shutil.rmtree(log_file.parent)
        await archiver.step()
        assert consumer.paused_now == set()
        await archiver.step()

    asyncio.run(read())
    assert archived(settings) == 2
    assert quarantine.detail() == {}
    assert archiver.not_ready() is None


def test_rows_of_a_table_that_fails_are_not_committed_and_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, quarantine = Settings(home=tmp_path), Quarantine("archive", "table")
    consumer = ScriptedConsumer({OUTCOMES: ROWS}, {}, {OUTCOMES: ROWS})
    archiver = archiver_of(settings, consumer, quarantine=quarantine)
    monkeypatch.setattr(quarantine_module, "RETRY_SECONDS_MIN", 0.0)
    broken = tmp_path / "archive" / "outcomes" / "_delta_log" / "00000000000000000001.json"

    async def read() -> None:
        await archiver.open_tables()
        broken.write_text("{garbage")
        await archiver.on_partitions_assigned([OUTCOMES])
        await archiver.step()
        assert quarantine.detail().keys() == {"tables_set_aside"}
        assert consumer.committed == {}
        broken.unlink()
        await archiver.step()
        await archiver.step()

    asyncio.run(read())
    assert archived(settings) == 2
    assert consumer.committed == {OUTCOMES: 2}
    assert quarantine.detail() == {}


def test_a_topic_that_is_recreated_while_it_is_read_ends_the_session_without_a_commit(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    first = archiver_of(settings, ScriptedConsumer({OUTCOMES: ROWS}), ids=["1", "2"])

    async def read_until_recreated() -> None:
        await first.open_tables()
        await first.on_partitions_assigned([OUTCOMES])
        await first.step()
        await first.on_partitions_revoked([OUTCOMES])
        await first.step()

    with pytest.raises(TopicRecreatedError, match="recreated since the last read: "):
        asyncio.run(read_until_recreated())
    assert archived(settings) == 0


def test_a_longer_topic_of_the_same_name_is_archived_from_its_start(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)

    async def read(consumer: ScriptedConsumer, topic_id: str) -> None:
        archiver = archiver_of(settings, consumer, ids=[topic_id])
        await archiver.open_tables()
        await archiver.on_partitions_assigned([OUTCOMES])
        await archiver.step()
        await archiver.on_partitions_revoked([OUTCOMES])

    first, second = ScriptedConsumer({OUTCOMES: OLD_ROWS}), ScriptedConsumer({OUTCOMES: NEW_ROWS})
    asyncio.run(read(first, "1"))
    asyncio.run(read(second, "2"))
    assert (first.sought, second.sought) == ([0], [0])
    assert archived(settings) == 3
    with inference_log.connect(settings) as log:
        assert log.execute("SELECT count(*) FROM outcomes").fetchone() == (5,)


def test_an_idle_partition_is_committed_to_kafka_as_far_as_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a kill between the two commits, and after the marker of a transaction at the end of the topic."""
    monkeypatch.setattr(idle_offsets, "CHECK_SECONDS", 0.0)
    consumer = ScriptedConsumer({OUTCOMES: ROWS}, {}, {}, {})
    archiver = archiver_of(Settings(home=tmp_path), consumer)
    seen = []

    async def read() -> None:
        await archiver.open_tables()
        await archiver.on_partitions_assigned([OUTCOMES])
        await archiver.step()
        assert consumer.committed == {}, "rows wait for the commit of the table"
        await archiver.on_partitions_revoked([OUTCOMES])
        await archiver.on_partitions_assigned([OUTCOMES])
        for position in (2, 3, 3):
            consumer.position_now = position
            await archiver.step()
            seen.append(dict(consumer.committed))
            consumer.committed.clear()

    asyncio.run(read())
    assert seen == [{OUTCOMES: 2}, {OUTCOMES: 3}, {}]
