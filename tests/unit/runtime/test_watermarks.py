"""Public watermarks."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from services.runtime import watermarks


def test_the_watermark_is_the_least_of_all_partitions() -> None:
    assert watermarks.least({b"0": b"30", b"1": b"20"}) == 20


def test_a_partition_that_never_reported_holds_back_the_view() -> None:
    assert watermarks.least({b"0": b"30", b"1": str(watermarks.NEVER).encode()}) is None


def test_a_view_that_nobody_runs_has_no_watermark() -> None:
    assert watermarks.least({}) is None


class _Pipeline:
    """Redis in which the watermark rises by one with each look."""

    def __init__(self) -> None:
        self.looks = 0

    async def exchange(self, commands: Sequence[bytes]) -> list[list[bytes]]:
        assert commands == [watermarks.first_command("view")]
        self.looks += 1
        return [[b"0", str(self.looks).encode()]]


def test_waiting_ends_as_soon_as_the_watermark_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watermarks, "POLL_SECONDS_MIN", 0)
    client: Any = _Pipeline()
    assert asyncio.run(watermarks.wait_for(client, ["view"], 4, timeout_seconds=30))
    assert client.looks == 4


def test_waiting_is_bounded() -> None:
    pipeline: Any = _Pipeline()
    assert not asyncio.run(watermarks.wait_for(pipeline, ["view"], 10**6, timeout_seconds=0))
