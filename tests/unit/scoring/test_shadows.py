"""Shadows score beside the predictions: their failures and their slowness affect no prediction."""

import asyncio

from services.scoring.shadows import NO_SHADOWS
from tests.unit.scoring.fakes import CHAMPION, SHADOW, GatedModel, HalfOfX, event, pipeline, sample, settle

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

    assert asyncio.run(run()) == ([0.5], {"frozen": [0.6]})


def test_a_failing_shadow_is_counted_and_affects_no_prediction():
    async def run():
        outputs, shadows = await started(HalfOfX(poison=1.0))
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
        return await waiting

    assert asyncio.run(run()) == {"frozen": [0.6]}


def test_without_any_prediction_no_shadow_is_scored():
    async def run():
        required = {"service": "s", "from_request": ["x", "who"], "missing": {"reject": ["who"]}}
        subject = pipeline(arms=[CHAMPION, SHADOW], features=required)
        _, shadows = await subject.score([event(subject, 0, who=None)])
        return shadows

    assert asyncio.run(run()) is NO_SHADOWS
