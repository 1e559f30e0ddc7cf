"""When a source partition is idle, and the heartbeats that are due."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from redis.exceptions import RedisClusterException
from structlog.testing import capture_logs

from services.features import idle_partitions
from services.features.idle_partitions import IdleDetector, IdleWatch, heartbeats_due
from services.runtime import supervised_task
from services.runtime.watermarks import NEVER
from tests.waiting import LIVENESS_SECONDS


def test_partition_is_idle_if_its_log_has_not_grown_for_the_idle_time() -> None:
    detector = IdleDetector(5_000)
    assert detector.idle({0: 10, 1: 0}, 100_000) == set()
    assert detector.idle({0: 11, 1: 0}, 104_999) == set()
    assert detector.idle({0: 11, 1: 0}, 105_000) == {1}
    assert detector.idle({0: 11, 1: 0}, 109_999) == {0, 1}
    assert detector.idle({0: 11, 1: 1}, 110_000) == {0}


def test_own_heartbeat_is_not_growth_but_another_record_is() -> None:
    detector = IdleDetector(5_000)
    detector.idle({0: 7}, 0)
    detector.expect_heartbeat(0)
    assert detector.idle({0: 8}, 5_000) == {0}
    detector.expect_heartbeat(0)
    assert detector.idle({0: 10}, 6_000) == set()


@pytest.mark.parametrize(
    ("watermarks_ms", "idle", "expected"),
    [
        ({0: 50, 1: 10, 2: 40}, set(), {}),
        ({0: 50, 1: 10, 2: 40}, {1}, {1: 40}),
        ({0: 50, 2: 40}, {1}, {1: 40}),
        ({0: 50, 1: 60, 2: 40}, {1}, {}),
        ({0: 50, 1: 10}, {1}, {}),
        ({0: 50, 1: 10}, {0, 1, 2}, {1: 50, 2: 50}),
        ({}, {0, 1, 2}, {}),
        ({0: NEVER, 1: 20, 2: 20}, {1, 2}, {}),
    ],
)
def test_heartbeat_follows_the_lowest_active_watermark_or_the_highest_if_all_are_idle(
    watermarks_ms: dict[int, int], idle: set[int], expected: dict[int, int]
) -> None:
    assert heartbeats_due(watermarks_ms, idle, 3, idle_ms=5, now_ms=1_000) == expected


def test_fast_clock_moves_no_idle_partition_ahead_of_the_wall_time() -> None:
    """One event of a device whose clock is 59 s ahead, then silence in all partitions for 5 s."""
    fast, now_ms = {0: 100_000, 1: 159_000}, 105_000
    assert heartbeats_due(fast, {0, 1}, 2, idle_ms=5_000, now_ms=now_ms) == {}
    assert heartbeats_due(fast, {0, 1}, 2, idle_ms=5_000, now_ms=now_ms + 1_000) == {0: 101_000}
    assert heartbeats_due(fast, {0}, 2, idle_ms=5_000, now_ms=now_ms) == {0: now_ms}


@pytest.mark.parametrize("error", [RedisClusterException("no node"), RecursionError()])
def test_the_watch_goes_on_after_any_error_and_says_so(monkeypatch: pytest.MonkeyPatch, error: Exception):
    """Watermarks hang on idle partitions for as long as nobody watches them."""
    monkeypatch.setattr(supervised_task, "RESTART_SECONDS", 0.0)
    fetches: list[str] = []
    watched = asyncio.Event()

    class Consumer:
        def __init__(self, **_options: Any) -> None:
            pass

        async def start(self) -> None:
            pass

        async def stop(self) -> None:
            pass

        async def end_offsets(self, partitions: Any) -> Any:
            fetches.append("fetch")
            if len(fetches) == 1:
                raise error
            watched.set()
            return await asyncio.Event().wait()

    class Decoder:
        source = SimpleNamespace(topic="t", idle_ms=1000)

    class Surroundings:
        async def partitions(self, _topic: str) -> int:
            return 1

        async def aclose(self) -> None:
            pass

    monkeypatch.setattr(idle_partitions, "AIOKafkaConsumer", Consumer)
    decoder: Any = Decoder()
    surroundings: Any = Surroundings()

    async def run() -> str | None:
        watch = IdleWatch([decoder], surroundings, surroundings, {})
        async with asyncio.timeout(LIVENESS_SECONDS), watch.running():
            await watched.wait()
            return watch.failure

    with capture_logs():
        assert repr(error) in str(asyncio.run(run()))
