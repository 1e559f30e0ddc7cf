"""Prediction records carry what later steps need, and only rows with a prediction have one."""

import asyncio

import pytest
from msgspec import UNSET

from services.scoring.prediction_records import count_predictions, to_records
from tests.unit.scoring.fakes import CHAMPION, SHADOW, HalfOfX, event, pipeline, sample


def scored(subject, events, **options):
    async def run():
        batch, shadows = await subject.score(events, **options)
        return batch, await shadows.scores(wait_for_all=True)

    return asyncio.run(run())


def test_a_record_carries_what_later_steps_need():
    subject = pipeline(arms=[CHAMPION, SHADOW])
    batch, shadow_scores = scored(subject, [event(subject, 0, x=1.2, who=None)])
    (record,) = to_records(batch, shadow_scores, subject.task, "m", partition=3, offsets=[10], now_ms=99)
    assert record.prediction_id == "r0"
    assert (record.version, record.arm, record.arm_weight) == (1, "champion", 10_000)
    assert (record.source_partition, record.source_offset, record.scored_time_ms) == (3, 10, 99)
    assert record.event_time_ms == 1_372_694_700_000
    assert record.features == [1.2, None, None]
    assert (record.score, record.prediction, record.probabilities) == (0.6, 1, UNSET)
    assert record.shadow_scores == {"frozen": pytest.approx(0.7)}


def test_some_rows_of_a_batch_are_the_records_of_one_slice():
    subject = pipeline(models={1: HalfOfX(poison=7.0), 2: HalfOfX()}, arms=[CHAMPION, SHADOW])
    events = [event(subject, number, x=7.0 if number == 2 else float(number)) for number in range(5)]
    batch, shadow_scores = scored(subject, events)
    found = to_records(
        batch,
        shadow_scores,
        subject.task,
        "m",
        partition=0,
        offsets=[50, 51, 52],
        now_ms=1,
        rows=range(1, 4),
    )
    assert [(one.prediction_id, one.source_offset) for one in found] == [("r1", 50), ("r3", 52)]
    assert [one.features[0] for one in found] == [1.0, 3.0]
    assert [one.shadow_scores["frozen"] for one in found] == [0.5, 1.5]


def test_predictions_are_counted_by_version_without_failed_rows():
    def counts():
        name = "driftline_predictions_total"
        return [
            sample(name, model="m", version=version, outcome=outcome)
            for version, outcome in (("1", "scored"), ("0", "collected"))
        ]

    before = counts()
    subject = pipeline(models={1: HalfOfX(poison=7.0)})
    batch, _ = scored(subject, [event(subject, number, x=7.0 if number == 2 else 1.0) for number in range(5)])
    count_predictions("m", batch)
    collecting = pipeline(arms=[])
    batch, _ = scored(collecting, [event(collecting, number) for number in range(3)])
    count_predictions("m", batch)
    assert [after - start for after, start in zip(counts(), before, strict=True)] == [4, 3]
