"""Shadows score beside the predictions: their failures and their slowness affect no prediction."""

import asyncio

import numpy as np
import pytest
from msgspec import UNSET

from services.scoring.shadows import NO_SHADOWS
from tests.unit.scoring.fakes import (
    CHAMPION,
    SHADOW,
    GatedModel,
    HalfOfX,
    declaration,
    decoded_predictions,
    event,
    pipeline,
    proven,
    sample,
    settle,
)

AT_ONCE = {"shadow_wait_ms": 0}


def dropped(reason):
    return sample("driftline_shadows_dropped_total", model="m", arm="frozen", reason=reason)


async def started(shadow, **limits):
    """Score one row with this shadow; return its output and the running shadows."""
    subject = pipeline(models={1: HalfOfX(), 2: shadow}, arms=[CHAMPION, SHADOW], limits=limits)
    batch, shadows = await subject.score([event(subject, 0)])
    return batch.outputs.tolist(), shadows


def test_a_shadow_scores_the_rows_of_the_prediction():
    async def run():
        outputs, shadows = await started(HalfOfX(offset=0.1))
        return outputs, await shadows.scores(wait_for_all=True)

    outputs, found = asyncio.run(run())
    assert outputs == [0.5]
    assert {name: (each.scores, each.probabilities) for name, each in found.items()} == {
        "frozen": ([0.6], ())
    }
    assert found["frozen"].call_us > 0


def test_a_shadow_of_a_multiclass_model_gives_the_probability_of_each_class():
    class Guess(HalfOfX):
        def predict(self, columns):
            if (columns["x"] == self.poison).any():
                raise ValueError("poison")
            return np.tile([0.2, 0.5, 0.3], (len(columns["x"]), 1))

    async def run():
        subject = pipeline(
            models={1: Guess(), 2: Guess(poison=7.0)},
            arms=[CHAMPION, SHADOW],
            task="multiclass",
            classes=["early", "on time", "late"],
            label={**declaration().label.model_dump(by_alias=True), "positive_above": None},
        )
        batch, shadows = await subject.score([event(subject, 0), event(subject, 1, x=7.0)])
        scores = await shadows.scores(wait_for_all=True)
        return decoded_predictions(subject, batch, scores)

    first, second = asyncio.run(run())
    assert (first.shadow_scores, first.shadow_probabilities) == ({"frozen": 0.5}, {"frozen": [0.2, 0.5, 0.3]})
    assert (second.shadow_scores, second.shadow_probabilities) == ({}, UNSET)
    assert first.shadow_versions == second.shadow_versions == {"frozen": 2}


def test_a_shadow_loses_only_the_rows_on_which_it_fails():
    async def run():
        subject = pipeline(models={1: HalfOfX(), 2: proven(HalfOfX(poison=7.0))}, arms=[CHAMPION, SHADOW])
        batch, shadows = await subject.score([event(subject, n, x=x) for n, x in enumerate((1.0, 7.0, 2.0))])
        scores = await shadows.scores(wait_for_all=True)
        found = decoded_predictions(subject, batch, scores)
        return [prediction.shadow_scores for prediction in found]

    before = sample("driftline_shadow_rows_failed_total", model="m", arm="frozen")
    assert asyncio.run(run()) == [{"frozen": 0.5}, {}, {"frozen": 1.0}]
    assert sample("driftline_shadow_rows_failed_total", model="m", arm="frozen") == before + 1


@pytest.mark.parametrize("shadow", [None, proven(HalfOfX(poison=1.0))])
def test_a_shadow_that_cannot_score_is_counted_and_affects_no_prediction(shadow):
    """It cannot be loaded, or fails on its golden batch."""

    async def run():
        models = {1: HalfOfX()} | ({} if shadow is None else {2: shadow})
        subject = pipeline(models=models, arms=[CHAMPION, SHADOW])
        batch, shadows = await subject.score([event(subject, 0)])
        return batch.outputs.tolist(), await shadows.scores(wait_for_all=True)

    before = dropped("failed")
    assert asyncio.run(run()) == ([0.5], {})
    assert dropped("failed") == before + 1


def test_a_shadow_with_a_wrong_shape_is_counted_and_affects_no_prediction():
    class Wrong(HalfOfX):
        def predict(self, columns):
            return np.ones((2, 2))

    async def run():
        outputs, shadows = await started(proven(Wrong()))
        return outputs, await shadows.scores(wait_for_all=True)

    before = dropped("failed")
    assert asyncio.run(run()) == ([0.5], {})
    assert dropped("failed") == before + 1


def test_a_slow_shadow_is_counted_and_delays_no_prediction():
    async def run():
        shadow = GatedModel()
        outputs, shadows = await started(shadow, **AT_ONCE)
        scores = await shadows.scores()
        shadow.release()
        return outputs, scores

    before = dropped("late")
    assert asyncio.run(run()) == ([0.5], {})
    assert dropped("late") == before + 1


def test_a_replay_waits_for_its_shadows_without_a_limit():
    """The declared wait is 0, so the scores are there only because the replay waits."""

    async def run():
        shadow = GatedModel(offset=0.1)
        _, shadows = await started(shadow, **AT_ONCE)
        waiting = asyncio.create_task(shadows.scores(wait_for_all=True))
        await shadow.next_call()
        await settle()
        assert not waiting.done()
        shadow.release()
        return (await waiting)["frozen"].scores

    assert asyncio.run(run()) == [0.6]


def test_without_any_prediction_no_shadow_is_scored():
    async def run():
        required = {"service": "s", "from_request": ["x", "who"], "missing": {"reject": ["who"]}}
        subject = pipeline(arms=[CHAMPION, SHADOW], features=required)
        _, shadows = await subject.score([event(subject, 0, who=None)])
        return shadows

    assert asyncio.run(run()) is NO_SHADOWS
