"""A model's calls are bounded; background work takes no slot of a prediction."""

import asyncio

import numpy as np

from services.scoring.thread_limits import ThreadLimits
from tests.unit.scoring.fakes import GatedModel, settle

COLUMNS = {"x": np.zeros(1)}


def test_no_more_calls_run_than_allowed():
    async def run():
        threads, model = ThreadLimits(2), GatedModel()
        calls = [asyncio.create_task(threads.run(model.predict, COLUMNS)) for _ in range(3)]
        await model.next_call()
        await model.next_call()
        await settle()
        assert len(model.calls) == 2
        model.release()
        await asyncio.gather(*calls)
        assert len(model.calls) == 3

    asyncio.run(run())


def test_background_work_and_predictions_do_not_wait_for_each_other():
    async def run():
        threads, background = ThreadLimits(1), GatedModel()
        in_background = asyncio.create_task(threads.run_in_background(background.predict, COLUMNS))
        await background.next_call()
        assert await threads.run(lambda: 7) == 7
        assert not in_background.done()
        background.release()
        await in_background

    asyncio.run(run())


def test_a_cancelled_call_keeps_its_slot_until_its_thread_is_free():
    async def run():
        threads, model = ThreadLimits(1), GatedModel()
        cancelled = asyncio.create_task(threads.run(model.predict, COLUMNS))
        await model.next_call()
        cancelled.cancel()
        following = asyncio.create_task(threads.run(lambda: 7))
        await settle()
        assert not following.done()
        model.release()
        assert await following == 7

    asyncio.run(run())
