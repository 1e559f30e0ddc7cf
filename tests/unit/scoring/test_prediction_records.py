"""Prediction records carry what later steps need, and only rows with a prediction have one."""

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from services.scoring.outputs import PredictionTask
from services.scoring.prediction_records import count_predictions, encode_predictions
from services.scoring.scored_batch import COLLECTING, ScoredBatch
from services.scoring.shadows import ShadowOutputs
from streams import records
from streams.records import Arm
from tests.unit.scoring.fakes import (
    CHAMPION,
    SHADOW,
    HalfOfX,
    declaration,
    decoded_predictions,
    event,
    pipeline,
    sample,
)

CHALLENGER = Arm(name='new "arm"', version=2, weight=500)
ARMS = (CHAMPION, CHALLENGER)
CLASSES = {"task": "multiclass", "classes": ["early", "on time", "late"]}
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
ROWS = st.fixed_dictionaries(
    {
        "id": st.text(max_size=5),
        "arm": st.sampled_from([-1, 0, 1]),
        "has_failed": st.booleans(),
        "is_fallback": st.booleans(),
        "lag_ms": st.integers(-1, 10**12),
        "time_ms": st.integers(0, 10**12),
        "amount": st.none() | NUMBERS,
        "text": st.none() | st.text(max_size=5),
        "probability": st.floats(0, 1),
        "shadow": st.none() | NUMBERS,
    }
)


def scored(subject, events, **options):
    async def run():
        batch, shadows = await subject.score(events, **options)
        return batch, await shadows.scores(wait_for_all=True)

    return asyncio.run(run())


def batch_of(rows, outputs, shadow_versions):
    amounts = [row["amount"] for row in rows]
    return ScoredBatch(
        ids=[row["id"] for row in rows],
        event_times_ms=np.array([row["time_ms"] for row in rows]),
        features={
            "amount": np.array(amounts, dtype=np.float64),
            "text": np.array([row["text"] for row in rows], dtype=object),
        },
        missing={"amount": np.array([amount is None for amount in amounts])},
        lag_ms=np.array([row["lag_ms"] for row in rows]),
        arms=ARMS,
        arm_of=np.array([row["arm"] for row in rows]),
        outputs=outputs,
        failed={number: "poison" for number, row in enumerate(rows) if row["has_failed"]},
        rejected=frozenset(),
        fallbacks={number: CHALLENGER for number, row in enumerate(rows) if row["is_fallback"]},
        call_us={0: 1500, 1: 20},
        feature_set="abc",
        shadow_versions=shadow_versions,
    )


def record_of(row, offset, *, multiclass, has_shadow):
    arm = COLLECTING if row["arm"] < 0 else ARMS[row["arm"]]
    has_arm, first = arm is not COLLECTING, row["probability"]
    probabilities = [first, 1 - first, 0.0]
    best = int(np.argmax(probabilities))
    prediction = CLASSES["classes"][best] if multiclass else int(first >= 0.5)
    is_shadowed = has_arm and has_shadow and row["shadow"] is not None
    return records.Prediction(
        prediction_id=row["id"],
        model="m",
        version=arm.version,
        arm=arm.name,
        arm_weight=arm.weight,
        call_us=[1500, 20][row["arm"]] if has_arm else UNSET,
        event_time_ms=row["time_ms"],
        scored_time_ms=99,
        source_partition=3,
        source_offset=offset,
        features=[row["amount"], row["text"]],
        features_lag_ms=None if row["lag_ms"] < 0 else row["lag_ms"],
        score=(probabilities[best] if multiclass else first) if has_arm else None,
        prediction=prediction if has_arm else None,
        shadow_scores={"frozen": row["shadow"]} if is_shadowed else {},
        shadow_probabilities={"frozen": [row["shadow"], 0.25]} if is_shadowed and multiclass else UNSET,
        probabilities=probabilities if has_arm and multiclass else UNSET,
        fallback_from=CHALLENGER.name if row["is_fallback"] else UNSET,
        fallback_version=CHALLENGER.version if row["is_fallback"] else UNSET,
        feature_set="abc",
        source="def",
        shadow_versions={"frozen": 7, "broken": 8} if has_shadow else UNSET,
        shadow_call_us={"frozen": 900} if has_shadow else UNSET,
    )


@given(st.lists(ROWS, min_size=1, max_size=6), st.integers(0, 2), st.booleans(), st.booleans())
def test_a_value_is_the_encoded_prediction_byte_for_byte(rows, skipped, multiclass, has_shadow):
    """Whatever the rows are: failed, without an arm, of several arms, without a feature."""
    first = np.array([row["probability"] for row in rows])
    outputs = np.stack([first, 1 - first, 0 * first], axis=1) if multiclass else first
    part = range(min(skipped, len(rows) - 1), len(rows))
    offsets = [50 + number for number in part]
    scores = [row["shadow"] for row in rows]
    each = [None if score is None else [score, 0.25] for score in scores] if multiclass else ()
    encoded = encode_predictions(
        batch_of(rows, outputs, {"frozen": 7, "broken": 8} if has_shadow else {}),
        {"frozen": ShadowOutputs(scores, each, 900)} if has_shadow else {},
        PredictionTask(declaration(**(CLASSES if multiclass else {}))),
        "m",
        partition=3,
        offsets=offsets,
        now_ms=99,
        rows=part,
        source="def",
    )
    wanted = [
        records.encode(record_of(rows[row], offset, multiclass=multiclass, has_shadow=has_shadow))
        for row, offset in zip(part, offsets, strict=True)
        if not rows[row]["has_failed"]
    ]
    assert encoded.values == wanted
    kept = [row - part.start for row in part if not rows[row]["has_failed"]]
    assert list(encoded.positions) == kept


def test_a_record_carries_what_later_steps_need():
    subject = pipeline(arms=[CHAMPION, SHADOW])
    batch, shadow_scores = scored(subject, [event(subject, 0, x=1.2, who=None)])
    (record,) = decoded_predictions(subject, batch, shadow_scores)
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
    found = decoded_predictions(subject, batch, shadow_scores, offsets=[50, 51, 52], rows=range(1, 4))
    assert [(one.prediction_id, one.source_offset) for one in found] == [("r1", 50), ("r3", 52)]
    assert [one.features[0] for one in found] == [1.0, 3.0]
    assert [one.shadow_scores["frozen"] for one in found] == [0.5, 1.5]


def test_predictions_are_counted_without_failed_rows():
    def counts():
        name = "driftline_predictions_total"
        return [sample(name, model="m", outcome=outcome) for outcome in ("scored", "collected")]

    before = counts()
    subject = pipeline(models={1: HalfOfX(poison=7.0)})
    batch, _ = scored(subject, [event(subject, number, x=7.0 if number == 2 else 1.0) for number in range(5)])
    count_predictions("m", batch)
    collecting = pipeline(arms=[])
    batch, _ = scored(collecting, [event(collecting, number) for number in range(3)])
    count_predictions("m", batch)
    assert [after - start for after, start in zip(counts(), before, strict=True)] == [4, 3]
