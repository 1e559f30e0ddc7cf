"""Commands about heartbeats: one process in turn claims them, and what was written is of a generation."""

import asyncio
from typing import Any

import pytest

from services.features.heartbeat_store import ForwardedProgress, HeartbeatStore
from tests.unit.features.fakes import ScriptedPipeline


def store_with(*replies: Any) -> tuple[HeartbeatStore, ScriptedPipeline]:
    pipeline = ScriptedPipeline(list(replies))
    real: Any = pipeline
    return HeartbeatStore(real, "p"), pipeline


def test_heartbeats_are_claimed_once_per_interval() -> None:
    store, pipeline = store_with(b"OK", None)
    assert asyncio.run(store.claim({"v": 50, "w": 500})) == ["v"]
    key = b"driftline:heartbeats:driftline:watermarks:p.v"
    assert list(pipeline.commands[0][1:]) == [key, b"", b"NX", b"PX", b"50"]


@pytest.mark.parametrize(
    ("heartbeat", "written_ms"), [(None, None), (b"7:20", 20), (b"6:20", None)], ids=["none", "it", "earlier"]
)
def test_forwarded_progress_is_of_the_current_generation(
    heartbeat: bytes | None, written_ms: int | None
) -> None:
    store, _ = store_with([b"7", heartbeat, b'{"next_offset":4,"watermarks_ms":{"0":30}}', None])
    assert asyncio.run(store.forwarded("v", 2)) == ForwardedProgress(7, [30, None], written_ms)


def test_heartbeat_is_noted_with_its_generation() -> None:
    store, pipeline = store_with(1)
    asyncio.run(store.note("v", 7, 20))
    assert pipeline.commands[0][2:] == (b"heartbeat", b"7:20")
