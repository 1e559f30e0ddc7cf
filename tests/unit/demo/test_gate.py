import asyncio
from collections.abc import AsyncIterator
from typing import Any, Literal, cast

import pytest

from services.demo import gate as gate_module
from services.demo.gate import Gate, StalledError
from services.demo.pace import HOUR_MS
from services.demo.retrainings import RetrainingLog
from streams import records

MODEL = "late"
Result = Literal["promoted", "passed", "rejected", "failed"]
Step = tuple[Any, ...]
"""A watermark, then records that appear with it."""


def requested(name: str, at_ms: int, trigger: records.Trigger = "drift") -> records.RetrainingRequested:
    return records.RetrainingRequested(
        request_id=name, model=MODEL, trigger=trigger, requested_at_ms=at_ms, reason="worse"
    )


def finished(
    name: str, at_ms: int, result: Result = "promoted", reasons: tuple[str, ...] = ()
) -> records.RetrainingFinished:
    return records.RetrainingFinished(
        request_id=name,
        model=MODEL,
        trigger="drift",
        requested_at_ms=at_ms,
        result=result,
        version=2,
        reasons=[*reasons],
    )


class World:
    """A script of what Redis and the retraining topic hold at each look; the last one stays."""

    def __init__(self, log: RetrainingLog, *steps: Step) -> None:
        self.log = log
        self.steps = list(steps)
        self.topic: list[records.RetrainingRecord] = []
        self.watermark_ms: int | None = None
        self.learned_ms: int | None = None
        self.looks = 0

    async def hget(self, key: str, field: str) -> bytes | None:
        assert field == "0"
        if key == "driftline:watermarks:learning.minutes":
            return None if self.learned_ms is None else str(self.learned_ms).encode()
        assert key == "driftline:watermarks:drift.late"
        self.looks += 1
        if self.steps:
            self.watermark_ms, *new = self.steps.pop(0)
            self.topic += new
        return None if self.watermark_ms is None else str(self.watermark_ms).encode()

    async def drain(self) -> None:
        for record in self.topic:
            self.log.add(record)

    async def scan_iter(self, match: str) -> AsyncIterator[bytes]:
        yield b"driftline:watermarks:origin_departures"

    async def hgetall(self, key: bytes) -> dict[bytes, bytes]:
        return {b"0": b"3600000", b"1": b"60000"}


def play(*steps: Step, lead_hours: int = 6) -> tuple[Gate, "World"]:
    log = RetrainingLog(MODEL)
    world = World(log, *steps)
    redis, follower = cast("Any", world), cast("Any", world)
    return Gate(redis, log, follower, lead_ms=lead_hours * HOUR_MS, start_ms=0), world


def test_ticks_within_the_lead_read_nothing() -> None:
    gate, world = play()
    asyncio.run(gate.permit(6 * HOUR_MS))
    assert world.looks == 0


def test_tick_after_the_lead_waits_for_the_watermark() -> None:
    gate, world = play((0,), (HOUR_MS - 1,), (HOUR_MS,))
    asyncio.run(gate.permit(7 * HOUR_MS))
    assert world.looks == 3


def test_lower_watermark_of_drift_and_learning_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "_STALL_SECONDS_MAX", 0.02)
    world = World(RetrainingLog(MODEL), (5 * HOUR_MS,))
    gate = Gate(
        cast("Any", world), world.log, cast("Any", world), learning=["minutes"], lead_ms=0, start_ms=0
    )
    for learned_ms in (None, 5 * HOUR_MS - 1):
        world.learned_ms = learned_ms
        with pytest.raises(StalledError):
            asyncio.run(gate.permit(5 * HOUR_MS))
    world.learned_ms = 6 * HOUR_MS
    asyncio.run(gate.permit(5 * HOUR_MS))


def test_open_retraining_stops_event_time_until_it_has_finished() -> None:
    gate, world = play(
        (2 * HOUR_MS, requested("a", 2 * HOUR_MS)), (2 * HOUR_MS,), (2 * HOUR_MS, finished("a", 2 * HOUR_MS))
    )
    asyncio.run(gate.permit(7 * HOUR_MS))
    assert world.looks == 3
    assert gate.holding_seconds > 0


def test_watermark_never_decreases() -> None:
    gate, _ = play((5 * HOUR_MS,), (HOUR_MS,))
    asyncio.run(gate.permit(11 * HOUR_MS))
    asyncio.run(gate.reach(5 * HOUR_MS))
    assert gate.permission.watermark_ms == 5 * HOUR_MS


def test_gate_waits_for_a_request_of_the_demo() -> None:
    gate, world = play((0,), (0, finished("mine", 0)))
    world.log.add(requested("mine", 0, "bootstrap"))
    asyncio.run(gate.finish("mine"))
    assert world.log.finished["mine"].version == 2


def test_stall_is_an_error_that_names_the_lagging_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "_STALL_SECONDS_MAX", 0.02)
    gate, _ = play((HOUR_MS,))
    with pytest.raises(StalledError, match=r"learning made no progress .*origin_departures -3540 s"):
        asyncio.run(gate.reach(2 * HOUR_MS))


def test_hanging_retraining_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "_RETRAINING_SECONDS_MAX", 0.02)
    gate, _ = play((HOUR_MS, requested("late-2", HOUR_MS)))
    with pytest.raises(StalledError, match="the retraining late-2 made no progress"):
        asyncio.run(gate.reach(HOUR_MS))
