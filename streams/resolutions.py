"""Where each resolution of an entity's tiles begins: instants, seconds, hops."""

import dataclasses
from bisect import bisect_left
from collections.abc import Sequence
from typing import Self

from streams import spans, tile_layout
from streams.tile_layout import NEVER, SECOND_MS


@dataclasses.dataclass(frozen=True, slots=True)
class Resolutions:
    """How fine the tiles of one entity are. Both limits only ever rise."""

    hop_ms: int
    instants_from_ms: int = NEVER
    """The time from which on a tile is an instant; a multiple of a second."""
    seconds_from_ms: int = NEVER
    """The time from which on a tile is at most a second, before it a hop; a multiple of the hop."""

    def start_of(self, time_ms: int) -> int:
        """Return the start of the tile that an event belongs to."""
        if time_ms >= self.instants_from_ms:
            return time_ms
        return time_ms - time_ms % (SECOND_MS if time_ms >= self.seconds_from_ms else self.hop_ms)

    def last_of(self, start_ms: int) -> int:
        """Return the latest instant of which the tile with this start may hold an event."""
        if start_ms >= self.instants_from_ms:
            return start_ms
        return start_ms + (SECOND_MS if start_ms >= self.seconds_from_ms else self.hop_ms) - 1

    def merged(self, other: "Resolutions") -> Self:
        """Return the coarser of both at each time."""
        return dataclasses.replace(
            self,
            instants_from_ms=max(self.instants_from_ms, other.instants_from_ms),
            seconds_from_ms=max(self.seconds_from_ms, other.seconds_from_ms),
        )

    def raised(self, starts_ms: Sequence[int]) -> Self:
        """Return the limits that tiles with these starts, in order, require.

        Each limit is that of the n-th newest distinct instant (second) that is kept. Later events can only
        raise it, and everything from it on is still separate: so it does not matter when this is called.
        """
        instants_max, seconds_max = tile_layout.INSTANTS_MAX, tile_layout.SECONDS_MAX
        if len(starts_ms) < min(instants_max, seconds_max):
            return self
        instants_from_ms, seconds_from_ms = self.instants_from_ms, self.seconds_from_ms
        if len(starts_ms) - bisect_left(starts_ms, instants_from_ms) >= instants_max:
            instants_from_ms = spans.floor(starts_ms[-instants_max], SECOND_MS)
        first_second = bisect_left(starts_ms, seconds_from_ms)
        if len(starts_ms) - first_second >= seconds_max:
            seconds = sorted({start - start % SECOND_MS for start in starts_ms[first_second:]})
            if len(seconds) >= seconds_max:
                seconds_from_ms = spans.floor(seconds[-seconds_max], self.hop_ms)
        return dataclasses.replace(self, instants_from_ms=instants_from_ms, seconds_from_ms=seconds_from_ms)

    def without_limits_before(self, oldest_ms: int) -> Self:
        """Forget limits before the oldest tile that is kept.

        They have no effect, and another order of the events may never have set them.
        """
        instants_from_ms = self.instants_from_ms if self.instants_from_ms >= oldest_ms else NEVER
        seconds_from_ms = self.seconds_from_ms if self.seconds_from_ms >= oldest_ms else NEVER
        if (instants_from_ms, seconds_from_ms) == (self.instants_from_ms, self.seconds_from_ms):
            return self
        return dataclasses.replace(self, instants_from_ms=instants_from_ms, seconds_from_ms=seconds_from_ms)
