"""Lets event time advance: reads watermarks and the retraining topic, and decides with `services.demo.pace`.

Why the result does not depend on the machine's speed:

- Drift publishes its watermark only after the retraining requests up to it are acknowledged. The gate reads
  the watermark first and then the retraining topic to its end. When it permits event time up to watermark +
  lead, every retraining requested up to that watermark has therefore finished.
- The lead is at most the delay after which a new version takes effect (model.yaml,
  ``retraining.effective_after_hours``). No request that the new version must answer has been sent before.
- Learning publishes its watermark only after the versions learned up to it are on the models topic. The
  gate uses the lower of the two watermarks, and the lead is at most that delay too.
- A promotion is on the models topic before the retraining has finished, and in a replay scoring reads that
  topic to its end before each slice. The first request after the delay is therefore answered by the new
  version.
- A training set contains what was known at the request's event time, a window's report what happened in the
  window, and a feature's value ends at the request's event time. None of them reads a clock.

What could break it: features that time out (model.yaml, ``features.wait_seconds``) on a machine that hangs
for a minute, and training, which is deterministic only for one version of scikit-learn and one number of
threads (another number adds in another order).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, cast

from redis.exceptions import RedisError

from services.demo import pace
from services.demo.followers import RetrainingFollower
from services.demo.retrainings import RetrainingLog
from services.runtime import watermarks

if TYPE_CHECKING:
    from redis.asyncio import Redis

_POLL_SECONDS = 0.01
"""Interval of reads: longer than a read takes, shorter than any tick; about 10,000 reads for a whole year."""
_POLL_HOLDING_SECONDS = 0.05
"""The same while a retraining runs, which takes seconds."""
_STALL_SECONDS_MAX = 90.0
"""Maximum time without progress: longer than scoring may wait for features; a restart takes 15 s."""
_RETRAINING_SECONDS_MAX = 600.0
WATERMARKS = "driftline:watermarks:"


class StalledError(RuntimeError):
    """Nothing made progress for too long. The message names the lagging process."""


class Gate:
    """Permits ticks, and measures how long they had to wait."""

    def __init__(
        self,
        redis: "Redis",
        log: RetrainingLog,
        follower: RetrainingFollower,
        *,
        learning: Sequence[str] = (),
        lead_ms: int,
        start_ms: int,
    ) -> None:
        """Take a connected client, the log and its follower, and the models that learn online."""
        self._redis = redis
        self._log = log
        self._follower = follower
        self._keys = [watermarks.key(f"drift.{log.model}")]
        self._keys += [watermarks.key(f"learning.{model}") for model in learning]
        self._lead_ms = lead_ms
        self.permission = pace.Permission(watermark_ms=start_ms)
        self.holding_seconds = 0.0
        self.waiting_seconds = 0.0

    @property
    def holding(self) -> bool:
        """Whether event time is stopped for a retraining."""
        return self.permission.retrainings_open > 0

    async def permit(self, tick_end_ms: int) -> None:
        """Return when a tick with this end may be played."""
        if self.permission.allows(tick_end_ms, self._lead_ms):
            return
        await self._until(lambda: self.permission.allows(tick_end_ms, self._lead_ms))

    async def reach(self, event_time_ms: int) -> None:
        """Return when everything up to an event time is processed and no retraining is open."""
        await self._until(lambda: self.permission.allows(event_time_ms, 0))

    async def finish(self, request_id: str) -> None:
        """Return when a retraining has finished."""
        await self._until(lambda: request_id in self._log.finished and not self.holding)

    async def _until(self, reached: Callable[[], bool]) -> None:
        moved_seconds = time.monotonic()
        while True:
            before, began = self.permission, time.monotonic()
            await self._read()
            now = time.monotonic()
            if before.retrainings_open:
                self.holding_seconds += now - began
            else:
                self.waiting_seconds += now - began
            if reached():
                return
            if self.permission != before:
                moved_seconds = now
            await self._check_stall(now - moved_seconds)

    async def _read(self) -> None:
        """Read the watermarks, then the retraining topic to its end: in this order (see above)."""
        await asyncio.sleep(_POLL_HOLDING_SECONDS if self.holding else _POLL_SECONDS)
        try:
            found = [await cast("Awaitable[bytes | None]", self._redis.hget(key, "0")) for key in self._keys]
        except RedisError:  # it restarts; `_check_stall` ends a wait that is too long
            return
        known_ms = [int(value) for value in found if value]
        watermark_ms = self.permission.watermark_ms
        if len(known_ms) == len(self._keys):
            watermark_ms = max(watermark_ms, min(known_ms))
        if watermark_ms != self.permission.watermark_ms or self._log.open:
            await self._follower.drain()
        self.permission = pace.Permission(watermark_ms, len(self._log.open))

    async def _check_stall(self, seconds: float) -> None:
        limit = _RETRAINING_SECONDS_MAX if self.holding else _STALL_SECONDS_MAX
        if seconds < limit:
            return
        what = (
            f"the retraining {self._log.open[0].request_id}"
            if self.holding
            else "the watermark of drift and learning"
        )
        raise StalledError(f"{what} made no progress for {seconds:.0f} s; {await self._watermarks()}")

    async def _watermarks(self) -> str:
        """Return how far each process is; check the one that lags most."""
        states = []
        async for key in self._redis.scan_iter(match=f"{WATERMARKS}*"):
            fields = await cast("Awaitable[dict[bytes, bytes]]", self._redis.hgetall(key))
            slowest = min(int(value) for value in fields.values())
            ahead_seconds = (slowest - self.permission.watermark_ms) / 1000
            states.append(f"{key.decode().removeprefix(WATERMARKS)} {ahead_seconds:+.0f} s")
        return "watermarks relative to it: " + (", ".join(sorted(states)) or "none was published")
