"""When the archiver commits, on a broker that is a list of answers and a real Delta table."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiokafka import TopicPartition

from services.archive import row_schemas
from services.archive.archiver import Archiver
from services.archive.delta_writer import DeltaWriter
from services.monitoring import inference_log
from services.runtime.settings import Settings
from streams import records, topics
from tests.unit.archive.test_write_buffer import TOPIC, Record, outcome

DEMAND = records.encode(
    records.RetrainingRequested(
        request_id="r", model="m", trigger="manual", requested_at_ms=0, reason="a test", offsets={TOPIC: [2]}
    )
)


class _Broker:
    """Hands out one answer for each poll."""

    def __init__(self, *answers: dict[TopicPartition, Sequence[Any]]) -> None:
        self._answers = list(answers)

    async def getmany(self, **_: Any) -> dict[TopicPartition, Sequence[Any]]:
        return self._answers.pop(0)

    async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    def seek(self, partition: TopicPartition, offset: int) -> None: ...

    async def commit(self, offsets: dict[TopicPartition, int]) -> None: ...

    def highwater(self, partition: TopicPartition) -> None: ...


def test_a_demand_that_is_read_before_the_partitions_are_taken_up_is_met_later(tmp_path: Path) -> None:
    """The rows are committed at once when they are read, not when they are a minute old."""
    settings = Settings(home=tmp_path)
    archiver = Archiver(settings, {TOPIC: row_schemas.OUTCOMES})
    archiver._writers["outcomes"] = DeltaWriter(settings, row_schemas.OUTCOMES)
    own, demands = TopicPartition(TOPIC, 0), TopicPartition(topics.RETRAINING.name, 0)
    rows = [Record(0, outcome(0)), Record(1, outcome(1))]
    archiver._consumer = _Broker({demands: [Record(0, DEMAND)]}, {own: rows[:1]}, {own: rows[1:]})

    async def work() -> list[int]:
        await archiver._step()
        await archiver.on_partitions_assigned([own, demands])
        reached = []
        for _ in range(2):
            await archiver._step()
            reached.append(inference_log.positions(settings, "outcomes", {TOPIC: [0]})[TOPIC][0])
        return reached

    assert asyncio.run(work()) == [0, 2]
