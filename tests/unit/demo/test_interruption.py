"""Signals interrupt the demo at any moment, and its clients can disconnect."""

import asyncio
import signal

import pytest

from services.demo.interruption import Interruption


def test_signal_outside_the_loop_interrupts_and_a_second_one_is_ignored() -> None:
    with Interruption() as interruption:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
    assert interruption.exit_code == 143


def test_signal_in_the_loop_cancels_the_work_which_can_disconnect() -> None:
    disconnected = []

    async def work() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            disconnected.append("client")

    with Interruption() as interruption, pytest.raises(KeyboardInterrupt):
        interruption.run(work())
    assert disconnected == ["client"]
    assert interruption.exit_code == 130


def test_handlers_are_restored() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interruption():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_work_without_a_signal_runs_to_its_end() -> None:
    seen = []

    async def work() -> None:
        await asyncio.sleep(0)
        seen.append(1)

    with Interruption() as interruption:
        interruption.run(work())
    assert seen == [1]
