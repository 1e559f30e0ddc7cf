"""Request rate limits for each caller: one bucket for all processes of an installation, on any machine.

The bucket is in Redis. A process takes tokens from it in small leases and spends them by itself, so a request
waits for Redis only when a lease is used up, which is rare at high rates.

Guarantee: n processes together admit, in any interval of s seconds, at most ``rate * (s + 1)`` requests of a
caller plus what they had leased before: at most 1.5 leases each, and a lease is a tenth of a second's tokens,
at least one. While Redis is unreachable each process keeps to its share of the rate by itself: then the bound
holds for each port, and when Redis becomes unreachable, each process admits one more burst.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from services.runtime import metrics, redis_clients

if TYPE_CHECKING:
    from services.runtime.settings import Settings

log = structlog.get_logger()

CALLERS_MAX = 10_000
"""Maximum callers remembered: one for each token, or for each address if no tokens are configured."""
LEASES_PER_SECOND = 10
LEASE_SECONDS_MAX = 1.0
"""Time after which the rest of a lease expires."""
PREFETCHED_TOKENS_MIN = 4
"""Minimum size of a lease that is fetched ahead; a smaller one would hold tokens that others need."""
REFUSED_SECONDS_MIN = 0.02
"""Minimum time between two leases for a rejected caller: a flood of requests must not become one of Redis."""
LEND_SECONDS_MAX = 0.2
"""Maximum time that a request waits for Redis, which normally responds within a millisecond."""
ALONE_SECONDS = 1.0
"""Time until Redis is tried again after a failure."""
LENDING_MAX = 8
"""Maximum concurrent requests for leases."""
ATTEMPTS_MAX = 8
"""Leases that other requests may use up before a request is rejected."""
KEY = "driftline:rate:"

Lend = Callable[[bytes, int], Awaitable[tuple[int, float]]]
"""Takes up to ``count`` tokens; returns how many were granted and, if none, the seconds to wait."""

_LEND = """
local rate, burst, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local kept = redis.call('HMGET', KEYS[1], 'left', 'at')
local left, at = tonumber(kept[1]) or burst, tonumber(kept[2]) or now
left = math.min(burst, left + math.max(0, now - at) * rate)
local granted = math.min(wanted, math.floor(left))
redis.call('HSET', KEYS[1], 'left', string.format('%.9f', left - granted), 'at', string.format('%.6f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil(1000 * burst / rate) + 1000)
return {granted, granted > 0 and '0' or string.format('%.6f', (1 - left) / rate)}
"""


class Limit(Protocol):
    """A rate limit for each caller."""

    async def take(self, caller: bytes) -> float:
        """Count a request; return 0 if it is admitted, else the seconds until one would be."""


class RateLimit:
    """A token bucket for each caller: a burst of one second's requests, then the rate."""

    def __init__(self, requests_per_second_max: float) -> None:
        """Take the rate; the burst is at least one request."""
        self._rate = requests_per_second_max
        self._burst = max(1.0, requests_per_second_max)
        self._callers: OrderedDict[bytes, tuple[float, float]] = OrderedDict()
        """Tokens left and the time of that count, by caller; the caller idle longest comes first."""

    def take(self, caller: bytes, now_seconds: float) -> float:
        """Count a request; return 0 if it is admitted, else the seconds until one would be.

        A caller that was forgotten starts with a full bucket: it is the one that was idle longest.
        """
        left, then_seconds = self._callers.pop(caller, (self._burst, now_seconds))
        left = min(self._burst, left + (now_seconds - then_seconds) * self._rate)
        wait_seconds = 0.0 if left >= 1 else (1 - left) / self._rate
        self._callers[caller] = (left if wait_seconds else left - 1, now_seconds)
        if len(self._callers) > CALLERS_MAX:
            self._callers.popitem(last=False)
        return wait_seconds


class _Account:
    """The leased tokens of one caller in this process."""

    __slots__ = ("borrowing", "expires_seconds", "refused_seconds", "tokens")

    def __init__(self) -> None:
        self.tokens = 0
        self.expires_seconds = 0.0
        self.refused_seconds = 0.0
        """The shared bucket has no token before this time either."""
        self.borrowing: asyncio.Task[None] | None = None


class SharedLimit:
    """The limit of one process that shares its buckets with others."""

    def __init__(
        self,
        requests_per_second_max: float,
        lend: Lend,
        *,
        share: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the rate and the shared buckets.

        Args:
            requests_per_second_max: The limit for each caller, over all processes.
            lend: Takes tokens from the shared bucket; see `lender`.
            share: The share of the rate that this process keeps to while Redis is unreachable.
            clock: Returns seconds.
        """
        self._lease = max(1, int(requests_per_second_max / LEASES_PER_SECOND))
        self._wait_seconds = 1 / requests_per_second_max
        self._lend = lend
        self._alone = RateLimit(requests_per_second_max * share)
        self._alone_until_seconds: float | None = None
        self._clock = clock
        self._accounts: OrderedDict[bytes, _Account] = OrderedDict()
        self._lending = asyncio.Semaphore(LENDING_MAX)

    async def take(self, caller: bytes) -> float:
        """Count a request; return 0 if it is admitted, else the seconds until one would be."""
        account = self._account(caller)
        for _ in range(ATTEMPTS_MAX):
            now = self._clock()
            if self._alone_until_seconds is not None and now < self._alone_until_seconds:
                return self._alone.take(caller, now)
            if now >= account.expires_seconds:
                account.tokens = 0
            if account.tokens:
                account.tokens -= 1
                is_low = account.tokens < self._lease / 2 and now >= account.refused_seconds
                if is_low and self._lease >= PREFETCHED_TOKENS_MIN:
                    self._borrow(caller, account)
                return 0.0
            if now < account.refused_seconds:
                return account.refused_seconds - now
            await asyncio.shield(self._borrow(caller, account))
        return self._wait_seconds

    def _account(self, caller: bytes) -> _Account:
        account = self._accounts.pop(caller, None) or _Account()
        self._accounts[caller] = account
        if len(self._accounts) > CALLERS_MAX:
            self._accounts.popitem(last=False)
        return account

    def _borrow(self, caller: bytes, account: _Account) -> asyncio.Task[None]:
        """Request a lease, unless one is already requested."""
        if account.borrowing is None:
            account.borrowing = asyncio.create_task(self._request_lease(caller, account))
        return account.borrowing

    async def _request_lease(self, caller: bytes, account: _Account) -> None:
        try:
            async with asyncio.timeout(LEND_SECONDS_MAX), self._lending:
                granted, wait_seconds = await self._lend(caller, self._lease)
        except Exception as error:  # noqa: BLE001  # whatever fails in Redis, requests continue
            self._limit_alone(error)
        else:
            self._limit_together()
            now = self._clock()
            account.tokens += granted
            account.expires_seconds = now + LEASE_SECONDS_MAX
            account.refused_seconds = 0.0 if granted else now + max(wait_seconds, REFUSED_SECONDS_MIN)
        finally:
            account.borrowing = None

    def _limit_alone(self, error: Exception) -> None:
        if self._alone_until_seconds is None:
            log.warning("rate_limit.alone", error=repr(error))
            metrics.RATE_LIMIT_ALONE.set(1)
        self._alone_until_seconds = self._clock() + ALONE_SECONDS

    def _limit_together(self) -> None:
        if self._alone_until_seconds is not None:
            log.info("rate_limit.shared_again")
            metrics.RATE_LIMIT_ALONE.set(0)
        self._alone_until_seconds = None


def lender(client: Any, requests_per_second_max: float) -> Lend:
    """Return a function that takes tokens from the buckets in Redis, by a `redis.asyncio` client."""
    burst = max(1.0, requests_per_second_max)

    async def lend(caller: bytes, count: int) -> tuple[int, float]:
        key = KEY + hashlib.sha256(caller).hexdigest()  # hides addresses from readers of Redis
        granted, wait_seconds = await client.eval(_LEND, 1, key, requests_per_second_max, burst, count)
        return int(granted), float(wait_seconds)

    return lend


def shared(settings: "Settings", *, workers: int) -> tuple[SharedLimit | None, Any]:
    """Return the limit of an installation, None if there is none, and the Redis client to close after it.

    Args:
        settings: The settings with the rate and Redis.
        workers: Processes that share this process's port, including this one.
    """
    if not settings.requests_per_second_max:
        return None, None
    client = redis_clients.connect(settings)
    lend = lender(client, settings.requests_per_second_max)
    return SharedLimit(settings.requests_per_second_max, lend, share=1 / workers), client
