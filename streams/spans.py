"""Which time a window covers, and how a change is computed from two windows.

At event time t, with tiles of a declared hop:

- *sliding*: from ``t - window``, rounded down to a tile, up to and including t.
- *hopping* by a slide: ``[end - window, end)``, where end is the last multiple of the slide since the
  epoch that is not after t: the last complete window. *Tumbling* is hopping by the window itself.
- *lifetime*, a window of 0: everything up to and including t; with a slide, everything before the last
  multiple of it that is not after t.
- *session*: like sliding, but only the events of the session that is open at t. Events belong to one
  session if each is at most the gap after the previous one. The session is open until the gap after its
  last event has passed.

The *previous window* of one that begins at s covers ``[s - window, s)``, its start rounded down to a tile.
"""

from enum import StrEnum
from typing import Protocol, TypeVar

import numpy as np

from streams.stored_arrays import Float64s, Int64s

Times = TypeVar("Times", int, Int64s)
"""Milliseconds: one time, or (n,) times."""

_ALWAYS_MS = -(2**62)
"""A time that is before every event."""


class WindowChange(StrEnum):
    """How a value is compared with the value of the previous window."""

    NONE = ""
    DIFFERENCE = "difference"
    RATIO = "ratio"


class AggregationSpec(Protocol):
    """One feature: what is aggregated, how, and over which window."""

    @property
    def column(self) -> str: ...

    @property
    def function(self) -> str: ...

    @property
    def window_ms(self) -> int:
        """The length of the window; 0 for the entity's whole life."""

    @property
    def slide_ms(self) -> int:
        """The distance between hopping windows; 0 for a sliding window."""

    @property
    def gap_ms(self) -> int:
        """The pause that ends a session, whose length ``window_ms`` limits.

        0 for windows that are not sessions.
        """

    @property
    def change(self) -> WindowChange: ...

    @property
    def percentile(self) -> float:
        """The percentile of ``approx_percentile``, from 0 to 1."""


def reach_ms(item: AggregationSpec, hop_ms: int) -> int:
    """Return how long before its own time a value may need events, before rounding."""
    previous_ms = item.window_ms + hop_ms if item.change else 0
    return item.window_ms + item.slide_ms + previous_ms


def covered(item: AggregationSpec, hop_ms: int, time_ms: Times) -> tuple[Times, Times]:
    """Return where the window of a value at this time begins and ends; the end is exclusive."""
    end_ms = floor(time_ms, item.slide_ms) if item.slide_ms else time_ms + 1
    if not item.window_ms:
        return 0 * end_ms + _ALWAYS_MS, end_ms
    if item.slide_ms:
        return end_ms - item.window_ms, end_ms
    return floor(time_ms - item.window_ms, hop_ms), end_ms


def moments_ms(item: AggregationSpec, hop_ms: int, instants_ms: Int64s) -> Int64s:
    """Return the moments at which events at (n,) instants may change a value: sorted, without duplicates.

    Between two moments, of all events of an entity, the value does not change.
    """
    if not item.window_ms:
        enters_ms = floor(instants_ms, item.slide_ms) + item.slide_ms if item.slide_ms else instants_ms
        return np.unique(enters_ms)
    if item.slide_ms:
        window_ends_ms = [floor(instants_ms, item.slide_ms) + item.slide_ms]
        leaves_ms = [floor(instants_ms + item.window_ms, item.slide_ms) + item.slide_ms]
        if item.change:
            leaves_ms.append(floor(instants_ms + 2 * item.window_ms, item.slide_ms) + item.slide_ms)
        return np.unique(np.concatenate(window_ends_ms + leaves_ms))
    tile_ends_ms = floor(instants_ms, hop_ms) + hop_ms
    moments = [instants_ms, tile_ends_ms + item.window_ms]
    if item.gap_ms:
        moments.append(instants_ms + item.gap_ms + 1)
    if item.change:
        previous_ends_ms = -floor(-(tile_ends_ms + item.window_ms), hop_ms)
        moments.append(previous_ends_ms + item.window_ms)
    return np.unique(np.concatenate(moments))


def floor(time_ms: Times, step_ms: int) -> Times:
    """Round down to a multiple of the step."""
    return time_ms - time_ms % step_ms


def changed(change: WindowChange, now: Float64s, previous: Float64s) -> Float64s:
    """Return the change (n,) from the previous windows; nan without a value in both, or for a ratio to 0."""
    with np.errstate(over="ignore", invalid="ignore"):
        if change is WindowChange.DIFFERENCE:
            result: Float64s = now - previous
        else:
            result = np.divide(now, previous, out=np.full(len(now), np.nan), where=previous != 0)
    return result
