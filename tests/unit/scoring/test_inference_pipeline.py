"""The inference path from decoded requests to outputs, without servers."""

import asyncio
import math

import msgspec
import numpy as np
import pytest
from msgspec import UNSET

from services.scoring.arm_router import UnknownVersionError
from services.scoring.load_failures import VersionNotLoadedError
from streams.records import Arm
from tests.unit.scoring.fakes import CHAMPION, SHADOW, HalfOfX, decoded_predictions, event, pipeline, proven


def score(subject, events, **options):
    """Return the batch and the scores of all its shadows."""

    async def run():
        batch, shadows = await subject.score(events, **options)
        return batch, await shadows.scores(wait_for_all=True)

    return asyncio.run(run())


def predictions(subject, events):
    """Return the prediction records of requests at the offsets 10, 11, ... of partition 3."""
    batch, shadow_scores = score(subject, events)
    return decoded_predictions(subject, batch, shadow_scores)


def test_without_a_version_features_are_collected_and_nothing_is_predicted():
    subject = pipeline(arms=[])
    (prediction,) = predictions(subject, [event(subject, 0)])
    assert (prediction.version, prediction.arm, prediction.score, prediction.prediction) == (
        0,
        "collecting",
        None,
        None,
    )
    assert prediction.features == [1.0, "abc", 3.0]


def test_without_a_version_requests_fail_if_an_arm_is_required():
    subject = pipeline(arms=[])
    batch, _ = score(subject, [event(subject, 0)], arm_is_required=True)
    assert batch.failed == {0: "no version is in effect"}
    assert batch.rejected == frozenset()


def test_each_request_gets_the_version_of_its_event_time():
    later = Arm(name="champion", version=2, weight=10_000, effective_from_ms=1_372_694_700_001)
    subject = pipeline(arms=[CHAMPION, later])
    new = subject.decoder.convert({"id": "r1", "at": "2013-07-01T16:05:00.002Z", "x": 1.0, "who": "a"})
    events = [event(subject, 0), new, event(subject, 2)]
    assert [prediction.version for prediction in predictions(subject, events)] == [1, 2, 1]
    assert score(subject, events)[0].outputs.tolist() == [0.5, 0.6, 0.5]


def test_a_requested_version_predicts_for_all_rows_and_no_shadow_scores_them():
    later = Arm(name="champion", version=2, weight=10_000, effective_from_ms=2_000_000_000_000)
    subject = pipeline(arms=[CHAMPION, later, SHADOW])
    batch, shadow_scores = score(subject, [event(subject, 0), event(subject, 1)], version=2)
    assert batch.outputs.tolist() == [0.6, 0.6]
    assert shadow_scores == {}
    with pytest.raises(UnknownVersionError):
        score(subject, [event(subject, 0)], version=3)


def test_a_row_on_which_the_model_fails_does_not_affect_its_neighbours():
    subject = pipeline(models={1: HalfOfX(poison=7.0)})
    events = [event(subject, number, x=7.0 if number == 2 else 0.1) for number in range(5)]
    assert [p.prediction_id for p in predictions(subject, events)] == ["r0", "r1", "r3", "r4"]
    assert "poison" in score(subject, events)[0].failed[2]


@pytest.mark.parametrize("count", [1, 3])
def test_if_every_row_fails_but_not_the_golden_batch_the_rows_are_at_fault(count):
    subject = pipeline(models={1: proven(HalfOfX(poison=7.0))})
    batch, _ = score(subject, [event(subject, number, x=7.0) for number in range(count)])
    assert batch.failed == dict.fromkeys(range(count), "the model failed: ValueError('poison')")
    assert not batch.unavailable
    assert score(subject, [event(subject, 9)])[0].outputs.tolist() == [0.5]


@pytest.mark.parametrize("count", [1, 3])
def test_if_the_golden_batch_fails_too_the_rows_wait_for_the_version(count):
    subject = pipeline(models={1: proven(HalfOfX(poison=1.0))})
    batch, _ = score(subject, [event(subject, number) for number in range(count)])
    assert list(batch.failed) == list(batch.unavailable) == list(range(count))
    assert "it fails on its golden batch" in batch.failed[0]
    with pytest.raises(VersionNotLoadedError, match="version 1 of m"):
        batch.check_available(range(count))


def test_a_challenger_that_does_not_load_costs_the_champion_nothing_and_its_rows_are_marked():
    arms = [Arm(name="champion", version=1, weight=7000), Arm(name="new", version=2, weight=3000)]
    subject = pipeline(models={1: HalfOfX()}, arms=arms)
    found = predictions(subject, [event(subject, number) for number in range(300)])
    assert {(p.version, p.arm, p.arm_weight, p.score) for p in found} == {(1, "champion", 7000, 0.5)}
    assert len(found) == 300
    marks = {p.fallback_from for p in found}
    assert marks == {UNSET, "new"}
    assert sum(p.fallback_from == "new" for p in found) == pytest.approx(90, abs=30)


class FixedOutputs:
    """Returns the same outputs for any rows."""

    size_bytes = 0

    def __init__(self, outputs):
        self._outputs = outputs

    def predict(self, columns):
        return np.array(self._outputs)


@pytest.mark.parametrize("outputs", [[0.1, 0.2], [[0.1, 0.9]], [np.nan], [np.inf]])
def test_output_that_the_task_does_not_allow_gives_no_prediction(outputs):
    subject = pipeline(models={1: FixedOutputs(outputs)})
    assert "the model returned" in score(subject, [event(subject, 0)])[0].failed[0]


def test_multiclass_probabilities_are_in_the_record():
    subject = pipeline(
        models={1: FixedOutputs([[0.2, 0.7, 0.1]])}, task="multiclass", classes=["early", "on time", "late"]
    )
    (prediction,) = predictions(subject, [event(subject, 0)])
    assert (prediction.score, prediction.prediction) == (0.7, "on time")
    assert prediction.probabilities == [0.2, 0.7, 0.1]


def test_threshold_is_the_declared_one():
    subject = pipeline(threshold=0.8)
    found = predictions(subject, [event(subject, 0, x=1.5), event(subject, 1, x=1.6)])
    assert [prediction.prediction for prediction in found] == [0, 1]


def with_missing(**declared):
    return {"features": {"service": "s", "from_request": ["x", "who"], "missing": declared}}


def test_the_model_gets_the_declared_value_and_the_record_says_that_the_feature_was_missing():
    seen = []

    class Recording(HalfOfX):
        def predict(self, columns):
            seen.append(columns["f"].tolist())
            return super().predict(columns)

    subject = pipeline(models={1: Recording()}, **with_missing(fill={"f": -1.0}))
    found = predictions(subject, [event(subject, 0, who=None), event(subject, 1)])
    assert seen == [[-1.0, 3.0]]
    assert [prediction.features[2] for prediction in found] == [None, 3.0]


def test_the_model_gets_a_missing_number_in_place_of_an_infinite_one_as_the_record_says():
    seen = []

    class Recording(HalfOfX):
        def predict(self, columns):
            seen.append(columns["x"].tolist())
            return np.full(len(columns["x"]), 0.5)

    subject = pipeline(models={1: Recording()})
    infinite = msgspec.structs.replace(event(subject, 0), x=math.inf)
    found = predictions(subject, [infinite, event(subject, 1)])
    assert seen == [[pytest.approx(math.nan, nan_ok=True), 1.0]]
    assert [prediction.features[0] for prediction in found] == [None, 1.0]


@pytest.mark.parametrize("declared", [{"reject": ["f"]}, {"otherwise": "reject", "fill": {"who": "x"}}])
def test_a_request_without_a_required_feature_is_rejected(declared):
    subject = pipeline(**with_missing(**declared))
    events = [event(subject, 0), event(subject, 1, who=None)]
    assert [prediction.prediction_id for prediction in predictions(subject, events)] == ["r0"]
    batch, _ = score(subject, events)
    assert "the feature f is missing" in batch.failed[1]
    assert batch.rejected == {1}


def test_the_challenger_predicts_for_its_keys_and_each_record_names_the_share():
    arms = [Arm(name="champion", version=1, weight=7000), Arm(name="new", version=2, weight=3000)]
    subject = pipeline(arms=arms)
    found = predictions(subject, [event(subject, number) for number in range(300)])
    assert {(p.arm, p.version, p.arm_weight) for p in found} == {("champion", 1, 7000), ("new", 2, 3000)}
    assert {p.score for p in found if p.arm == "new"} == {0.6}
