"""The inference path without servers."""

import asyncio
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from services.runtime.declaration import DeclarationError
from services.scoring.inference import FeaturesLateError, predict_isolating, to_predictions
from services.scoring.outputs import Task
from streams.records import Arm
from tests.unit.scoring.fakes import CHAMPION, SHADOW, HalfOfX, declaration, event, scorer


def score(scorer, events, *, replay=False):
    times_ms = np.array([scorer.event_time_ms(each) for each in events])
    return asyncio.run(scorer.score(events, times_ms, replay=replay))


def predictions(scored, task=None):
    offsets = list(range(10, 10 + len(scored.ids)))
    task = task or Task(declaration())
    return to_predictions(scored, task, "m", partition=3, offsets=offsets, now_ms=99)


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
    assert scored.outputs.tolist() == [0.5, 0.6, 0.5]


def test_one_request_that_the_model_cannot_score_leaves_its_neighbours_alone():
    subject = scorer(models={1: HalfOfX(poison=7.0)})
    scored = score(subject, [event(subject, n, x=7.0 if n == 2 else 0.1) for n in range(5)])
    assert [p.prediction_id for p in predictions(scored)] == ["r0", "r1", "r3", "r4"]
    assert "poison" in scored.failed[2]


@given(st.sets(st.integers(0, 30), max_size=30), st.integers(1, 31))
def test_isolation_finds_exactly_the_rows_at_fault(poisoned, count):
    class Touchy:
        size_bytes = 0

        def predict(self, columns):
            if poisoned & set(columns["x"].astype(int).tolist()):
                raise ValueError("poison")
            return columns["x"]

    columns = {"x": np.arange(count, dtype=float)}
    at_fault = poisoned & set(range(count))
    if len(at_fault) == count:
        with pytest.raises(ValueError, match="poison"):
            predict_isolating(Touchy(), Task(declaration()), columns)
        return
    scores, errors = predict_isolating(Touchy(), Task(declaration()), columns)
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
        asyncio.run(subject.wait_for_features(1))


class Fixed:
    """Returns the same whatever it is asked."""

    size_bytes = 0

    def __init__(self, outputs):
        self.outputs = outputs

    def predict(self, columns):
        return np.array(self.outputs)


def test_regression_predicts_its_score():
    subject = scorer(models={1: Fixed([-3.5])}, task="regression")
    (prediction,) = predictions(score(subject, [event(subject, 0)]), subject.task)
    assert (prediction.score, prediction.prediction, prediction.probabilities) == (-3.5, -3.5, UNSET)


def test_multiclass_predicts_the_most_probable_class_and_tells_all_probabilities():
    subject = scorer(
        models={1: Fixed([[0.2, 0.7, 0.1]])}, task="multiclass", classes=["early", "on time", "late"]
    )
    (prediction,) = predictions(score(subject, [event(subject, 0)]), subject.task)
    assert (prediction.score, prediction.prediction) == (0.7, "on time")
    assert prediction.probabilities == [0.2, 0.7, 0.1]


def test_threshold_is_the_declared_one():
    subject = scorer(threshold=0.8)
    found = predictions(score(subject, [event(subject, 0, x=1.5), event(subject, 1, x=1.6)]), subject.task)
    assert [prediction.prediction for prediction in found] == [0, 1]


@pytest.mark.parametrize("outputs", [[0.1, 0.2], [[0.1, 0.9]], [np.nan], [np.inf]])
def test_output_that_the_task_does_not_allow_is_an_error_not_an_answer(outputs):
    subject = scorer(models={1: Fixed(outputs)})
    with pytest.raises(ValueError, match="the model returned"):
        score(subject, [event(subject, 0)])


def missing(**declared):
    return {"features": {"service": "s", "from_request": ["x", "who"], "missing": declared}}


def test_model_gets_the_declared_value_and_the_log_says_that_none_was_served():
    seen = []

    class Watching(HalfOfX):
        def predict(self, columns):
            seen.append(columns["f"].tolist())
            return super().predict(columns)

    subject = scorer(models={1: Watching()}, **missing(fill={"f": -1.0}))
    found = predictions(score(subject, [event(subject, 0, who=None), event(subject, 1)]))
    assert seen == [[-1.0, 3.0]]
    assert [prediction.features[2] for prediction in found] == [None, 3.0]


@pytest.mark.parametrize("declared", [{"reject": ["f"]}, {"otherwise": "reject", "fill": {"who": "x"}}])
def test_request_is_refused_where_a_value_is_missing_that_must_not_be(declared):
    subject = scorer(**missing(**declared))
    scored = score(subject, [event(subject, 0), event(subject, 1, who=None)])
    assert [prediction.prediction_id for prediction in predictions(scored)] == ["r0"]
    assert "the feature f is missing" in scored.failed[1]


def test_policy_for_a_feature_that_does_not_exist_is_refused():
    with pytest.raises(DeclarationError, match="names y; the features are x, who, f"):
        scorer(**missing(reject=["y"]))


def test_challenger_answers_its_keys_and_each_prediction_names_the_share():
    arms = [Arm(name="champion", version=1, weight=7000), Arm(name="new", version=2, weight=3000)]
    subject = scorer(arms=arms)
    found = predictions(score(subject, [event(subject, number) for number in range(300)]))
    assert {(p.arm, p.version, p.arm_weight) for p in found} == {("champion", 1, 7000), ("new", 2, 3000)}
    assert {p.score for p in found if p.arm == "new"} == {0.6}


def test_slow_shadow_does_not_hold_up_the_answer():
    released = threading.Event()

    class Slow(HalfOfX):
        def predict(self, columns):
            released.wait(10)
            return super().predict(columns)

    subject = scorer(models={1: HalfOfX(), 2: Slow()}, arms=[CHAMPION, SHADOW])
    (prediction,) = predictions(score(subject, [event(subject, 0)]))
    released.set()
    assert (prediction.score, prediction.shadow_scores) == (0.5, {})


def test_replay_waits_for_its_shadows():
    class Slow(HalfOfX):
        def predict(self, columns):
            time.sleep(0.1)
            return super().predict(columns)

    subject = scorer(models={1: HalfOfX(), 2: Slow(offset=0.1)}, arms=[CHAMPION, SHADOW])
    (prediction,) = predictions(score(subject, [event(subject, 0)], replay=True))
    assert prediction.shadow_scores == {"frozen": 0.6}
