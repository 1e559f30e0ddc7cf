"""Work and its background coroutines end together."""

import asyncio

import pytest

from services.demo.play import beside


async def _fail() -> None:
    await asyncio.sleep(0)
    raise ValueError("background")


async def _never_end() -> None:
    await asyncio.Event().wait()


async def _briefly() -> None:
    await asyncio.sleep(0)


def test_failure_in_the_background_ends_the_work() -> None:
    with pytest.raises(ValueError, match="background"):
        asyncio.run(beside(_never_end(), _fail()))


def test_end_of_the_work_ends_the_background() -> None:
    asyncio.run(beside(_briefly(), _never_end()))
