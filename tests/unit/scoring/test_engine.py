"""The inference path without servers."""

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scoring.engine import FeaturesLateError, UnanswerableError, predict_isolating, to_predictions
from streams.records import Arm
from tests.unit.scoring.fakes import CHAMPION, SHADOW, HalfOfX, event, scorer


def score(scorer, events, *, wait=False):
    return asyncio.run(scorer.score(events, wait=wait))


def predictions(scored):
    offsets = list(range(10, 10 + len(scored.ids)))
    return to_predictions(scored, "m", partition=3, offsets=offsets, now_ms=99)


def test_prediction_carries_what_later_steps_need():
    subject = scorer(arms=[CHAMPION, SHADOW])
    (prediction,) = predictions(score(subject, [event(subject, 0, x=1.2, who=None)]))
    assert prediction.prediction_id == "r0"
    assert (prediction.version, prediction.arm, prediction.arm_weight) == (1, "champion", 10_000)
    assert (prediction.source_partition, prediction.source_offset, prediction.scored_time_ms) == (3, 10, 99)
    assert prediction.event_time_ms == 1_372_694_700_000
    assert prediction.features == [1.2, None, None]
    assert (prediction.score, prediction.prediction) == (0.6, 1)
    assert prediction.shadow_scores == {"frozen": pytest.approx(0.7)}


def test_without_a_model_features_are_collected_and_nothing_is_predicted():
    subject = scorer(arms=[])
    (prediction,) = predictions(score(subject, [event(subject, 0)]))
    assert (prediction.version, prediction.arm, prediction.score, prediction.prediction) == (
        0,
        "collecting",
        None,
        None,
    )
    assert prediction.features == [1.0, "abc", 3.0]


def test_requests_of_one_slice_go_to_the_versions_of_their_event_times():
    later = Arm(name="champion", version=2, weight=10_000, effective_from_ms=1_372_694_700_001)
    subject = scorer(arms=[CHAMPION, later])
    new = subject.decoder.convert({"id": "r1", "at": "2013-07-01T16:05:00.002Z", "x": 1.0, "who": "a"})
    scored = score(subject, [event(subject, 0), new, event(subject, 2)])
    assert [p.version for p in predictions(scored)] == [1, 2, 1]
    assert scored.scores.tolist() == [0.5, 0.6, 0.5]


def test_one_request_that_the_model_cannot_score_leaves_its_neighbours_alone():
    subject = scorer(models={1: HalfOfX(poison=7.0)})
    scored = score(subject, [event(subject, n, x=7.0 if n == 2 else 0.1) for n in range(5)])
    assert [p.prediction_id for p in predictions(scored)] == ["r0", "r1", "r3", "r4"]
    assert "poison" in scored.failed[2]


@given(st.sets(st.integers(0, 30), max_size=30), st.integers(1, 31))
def test_isolation_finds_exactly_the_rows_at_fault(poisoned, count):
    class Touchy:
        def predict(self, columns):
            if poisoned & set(columns["x"].astype(int).tolist()):
                raise ValueError("poison")
            return columns["x"]

    columns = {"x": np.arange(count, dtype=float)}
    at_fault = poisoned & set(range(count))
    if len(at_fault) == count:
        with pytest.raises(ValueError, match="poison"):
            predict_isolating(Touchy(), columns)
        return
    scores, errors = predict_isolating(Touchy(), columns)
    assert set(errors) == at_fault
    assert set(np.flatnonzero(np.isnan(scores)).tolist()) == at_fault


def test_model_that_fails_on_everything_raises_so_that_nothing_is_committed():
    subject = scorer(models={1: HalfOfX(poison=7.0)})
    with pytest.raises(ValueError, match="poison"):
        score(subject, [event(subject, n, x=7.0) for n in range(3)])


def test_failing_shadow_never_touches_the_answer():
    subject = scorer(models={1: HalfOfX(), 2: HalfOfX(poison=1.0)}, arms=[CHAMPION, SHADOW])
    (prediction,) = predictions(score(subject, [event(subject, 0)]))
    assert prediction.score == 0.5
    assert prediction.shadow_scores == {}


def test_features_that_do_not_come_in_time_fail_the_slice():
    subject = scorer()
    subject._reader.passed = False
    with pytest.raises(FeaturesLateError, match="is the features process running"):
        score(subject, [event(subject, 0)], wait=True)


def test_answer_without_a_model_says_so():
    subject = scorer(arms=[])
    with pytest.raises(UnanswerableError, match="no model in effect"):
        asyncio.run(subject.answer([event(subject, 0)]))
