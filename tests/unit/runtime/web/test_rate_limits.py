"""Rate limits of one process, and of several that share a bucket."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from services.runtime.web import rate_limits
from services.runtime.web.rate_limits import RateLimit, SharedLimit
from tests.waiting import LIVENESS_SECONDS


class Bucket:
    """The shared bucket as Redis keeps it, with a manual clock; may be unreachable."""

    def __init__(self, rate):
        self.rate = rate
        self.now = 100.0
        self.left = self.burst = max(1.0, rate)
        self.at = self.now
        self.calls = 0
        self.is_away = False

    async def lend(self, caller, count):
        self.calls += 1
        await asyncio.sleep(0)
        if self.is_away:
            raise ConnectionError("away")
        self.left = min(self.burst, self.left + (self.now - self.at) * self.rate)
        self.at = self.now
        granted = min(count, int(self.left))
        self.left -= granted
        return granted, 0.0 if granted else (1 - self.left) / self.rate

    def limits(self, count):
        return [
            SharedLimit(self.rate, self.lend, share=1 / count, clock=lambda: self.now) for _ in range(count)
        ]


def run(scenario):
    return asyncio.run(scenario())


def alone():
    return REGISTRY.get_sample_value("driftline_rate_limit_alone")


@given(st.lists(st.floats(0, 0.4), min_size=1, max_size=60), st.floats(1, 20))
def test_no_interval_admits_more_than_the_rate_and_one_burst(gaps_seconds, rate):
    limit, now, passed = RateLimit(rate), 100.0, []
    for gap in gaps_seconds:
        now += gap
        if limit.take(b"a", now) == 0:
            passed.append(now)
    assert_bounded(passed, rate, burst=rate)


def assert_bounded(passed, rate, burst):
    for first, start in enumerate(passed):
        for last in range(first, len(passed)):
            assert last - first + 1 <= burst + (passed[last] - start) * rate + 1e-6


def test_a_caller_that_waits_as_requested_is_admitted():
    limit = RateLimit(3)
    assert [limit.take(b"a", 5.0) for _ in range(3)] == [0, 0, 0]
    wait_seconds = limit.take(b"a", 5.0)
    assert 0 < wait_seconds <= 1 / 3
    assert limit.take(b"a", 5.0 + wait_seconds + 1e-9) == 0


def test_callers_are_kept_within_a_bound(monkeypatch):
    monkeypatch.setattr(rate_limits, "CALLERS_MAX", 2)
    limit = RateLimit(1)
    for caller in (b"a", b"b", b"c"):
        assert limit.take(caller, 0.0) == 0
    assert limit.take(b"c", 0.0) > 0
    assert limit.take(b"a", 0.0) == 0


@given(
    st.lists(st.tuples(st.floats(0, 0.2), st.integers(0, 2), st.integers(1, 30)), min_size=1, max_size=40),
    st.floats(1, 200),
)
def test_several_processes_together_admit_no_more_than_guaranteed(steps, rate):
    """The bound holds for any process and any number of concurrent requests: burst, rate and leases."""

    async def scenario():
        bucket, passed = Bucket(rate), []
        limits = bucket.limits(3)
        for gap, process, count in steps:
            bucket.now += gap
            waits = await asyncio.gather(*(limits[process].take(b"a") for _ in range(count)))
            passed += [bucket.now] * waits.count(0)
        return passed

    lease = max(1, int(rate / rate_limits.LEASES_PER_SECOND))
    assert_bounded(run(scenario), rate, burst=max(1, rate) + 3 * 1.5 * lease)


@pytest.mark.parametrize(("gap_seconds", "wanted"), [(0.002, 500), (0.02, 200)])
def test_a_single_caller_gets_its_full_rate(gap_seconds, wanted):
    """100 requests per second, sent to three processes in turn for four seconds: a burst, then the rate."""

    async def scenario():
        bucket = Bucket(100)
        limits, passed = bucket.limits(3), 0
        for step in range(round(4 / gap_seconds)):
            bucket.now += gap_seconds
            passed += (await limits[step % 3].take(b"a")) == 0
        return passed, bucket.calls

    passed, calls = run(scenario)
    assert wanted - 45 <= passed <= wanted
    if wanted == 200:
        assert calls <= passed / 4  # most requests do not wait for Redis
    else:
        assert calls <= passed + 3 * 4 / rate_limits.REFUSED_SECONDS_MIN


def test_a_low_rate_is_kept_exactly():
    async def scenario():
        bucket = Bucket(2)
        limits = bucket.limits(4)
        first = [await limit.take(b"a") for limit in limits]
        bucket.now += first[2]
        later = [await limit.take(b"a") for limit in limits]
        return first, later

    first, later = run(scenario)
    assert [wait == 0 for wait in first] == [True, True, False, False]
    assert later.count(0) == 1


def test_a_rejected_caller_asks_the_bucket_again_only_when_it_has_a_token():
    async def scenario():
        bucket = Bucket(1)
        (limit,) = bucket.limits(1)
        waits = [await limit.take(b"a") for _ in range(50)]
        return waits.count(0), bucket.calls

    assert run(scenario) == (1, 2)


def test_without_redis_each_process_keeps_to_its_share_until_redis_is_back():
    async def scenario():
        bucket = Bucket(20)
        limits = bucket.limits(2)
        bucket.is_away = True
        admitted = sum([(await limits[0].take(b"a")) == 0 for _ in range(30)])
        calls, is_alone = bucket.calls, alone()
        bucket.is_away = False
        bucket.now += rate_limits.ALONE_SECONDS
        assert await limits[0].take(b"a") == 0
        return admitted, calls, is_alone, alone()

    assert run(scenario) == (10, 1, 1, 0)


def test_a_redis_that_does_not_respond_delays_no_request(monkeypatch):
    monkeypatch.setattr(rate_limits, "LEND_SECONDS_MAX", 0.01)

    async def unresponsive(_caller, _count):
        await asyncio.Event().wait()

    async def scenario():
        limit = SharedLimit(5, unresponsive)
        return await asyncio.wait_for(limit.take(b"a"), LIVENESS_SECONDS)

    assert run(scenario) == 0
