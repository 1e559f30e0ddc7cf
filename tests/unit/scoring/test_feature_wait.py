"""The wait of requests for their features: bounded, shown, counted."""

import asyncio
from typing import Any

import structlog.testing

from services.runtime.declaration import Features
from services.scoring.feature_wait import SHOWN_SECONDS, FeatureWait
from tests.unit.scoring.fakes import ManualClock


class Watermark:
    """Is passed after this many seconds; each call takes all of its timeout."""

    def __init__(self, clock: ManualClock, passes_after_seconds: float) -> None:
        self.timeouts: list[float] = []
        self._clock, self._passes_after = clock, passes_after_seconds

    async def wait_for(self, _event_time_ms: int, timeout_seconds: float) -> bool:
        self.timeouts.append(timeout_seconds)
        passes = self._clock.seconds + timeout_seconds >= self._passes_after
        self._clock.advance(timeout_seconds)
        return passes


def wait_with(passes_after_seconds: float, **declared: Any) -> tuple[FeatureWait, Watermark]:
    clock = ManualClock()
    watermark: Any = Watermark(clock, passes_after_seconds)
    features = Features(from_request=("x",), wait_seconds=60, **declared)
    return FeatureWait("waits", features, watermark, clock), watermark


def test_no_request_waits_for_longer_than_declared_however_often_it_begins_again() -> None:
    subject, watermark = wait_with(1000)
    deadline = subject.begin()
    assert [asyncio.run(subject.until(5, deadline, 3)) for _ in range(2)] == [False, False]
    assert watermark.timeouts == [SHOWN_SECONDS, 60 - SHOWN_SECONDS, 0, 0]
    assert subject.waiting == 0


def test_features_that_come_in_time_end_the_wait() -> None:
    for seconds, timeouts in ((0.5, [SHOWN_SECONDS]), (40, [SHOWN_SECONDS, 60 - SHOWN_SECONDS])):
        subject, watermark = wait_with(seconds)
        assert asyncio.run(subject.until(5, subject.begin(), 3))
        assert watermark.timeouts == timeouts


def test_only_the_first_and_the_last_late_slice_are_logged() -> None:
    subject, _ = wait_with(1000, after_wait="dead_letter")
    with structlog.testing.capture_logs() as logs:
        for late in (0, 3, 4, 0, 0):
            subject.note(late)
    assert [each["event"] for each in logs] == ["scoring.features_late", "scoring.features_in_time"]
    assert logs[0]["requests"] == 3
    assert "within 60 s (features.wait_seconds)" in subject.reason
