"""Which time a window covers, and how two windows make a change.

At event time t, with the hop h of the tiles:

- *sliding*: from ``t - window``, rounded down to a tile, up to and with t.
- *hopping* by a slide: ``[end - window, end)``, where end is the last multiple of the slide since the
  epoch that is not after t: the last complete window. *Tumbling* is hopping by the window itself.
- *lifetime*, a window of 0: everything up to and with t; with a slide, everything before the last multiple
  of it that is not after t.
- *session*: like sliding, but only the events of the session that is open at t. Events belong to one
  session if none is more than the gap after the one before; it is open until the gap after its last.

The *window before* one that begins at s covers ``[s - window, s)``, rounded down to a tile.
"""

from enum import StrEnum
from typing import Protocol, TypeVar

import numpy as np

from streams.cells import Float64s, Int64s

Times = TypeVar("Times", int, Int64s)
"""Milliseconds: one time, or many at once."""


_ALWAYS_MS = -(2**62)
"""Before everything."""


class WindowChange(StrEnum):
    """What becomes of a value and the one of the window before."""

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
        """How far back events count; 0 for the entity's whole life."""

    @property
    def slide_ms(self) -> int:
        """The distance of hopping windows; 0 for a window that slides with the time."""

    @property
    def gap_ms(self) -> int:
        """What ends a session; 0 for windows that are none. The window is then the most that counts."""

    @property
    def change(self) -> WindowChange: ...

    @property
    def percentile(self) -> float:
        """Of ``approx_percentile``, from 0 to 1."""


def reach_ms(item: AggregationSpec, hop_ms: int) -> int:
    """Return how far behind the time of a value the events may be that it needs, before rounding."""
    before_ms = item.window_ms + hop_ms if item.change else 0
    return item.window_ms + item.slide_ms + before_ms


def covered(item: AggregationSpec, hop_ms: int, time_ms: Times) -> tuple[Times, Times]:
    """Return where the window of a value at this time begins, and the first instant behind it."""
    end_ms = floor(time_ms, item.slide_ms) if item.slide_ms else time_ms + 1
    if not item.window_ms:
        return 0 * end_ms + _ALWAYS_MS, end_ms
    if item.slide_ms:
        return end_ms - item.window_ms, end_ms
    return floor(time_ms - item.window_ms, hop_ms), end_ms


def moments_ms(item: AggregationSpec, hop_ms: int, instants_ms: Int64s) -> Int64s:
    """Return when a value may change because of events at (n,) instants: sorted, each once.

    Between two of these moments, of all events, it stays as it is.
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
    behind_ms = floor(instants_ms, hop_ms) + hop_ms
    moments = [instants_ms, behind_ms + item.window_ms]
    if item.gap_ms:
        moments.append(instants_ms + item.gap_ms + 1)
    if item.change:
        before_ends_ms = -floor(-(behind_ms + item.window_ms), hop_ms)
        moments.append(before_ends_ms + item.window_ms)
    return np.unique(np.concatenate(moments))


def floor(time_ms: Times, step_ms: int) -> Times:
    """Round down to a multiple."""
    return time_ms - time_ms % step_ms


def changed(change: WindowChange, now: Float64s, before: Float64s) -> Float64s:
    """Return the change from the windows before; nan without a value in both, or as a ratio to 0."""
    with np.errstate(over="ignore", invalid="ignore"):
        if change is WindowChange.DIFFERENCE:
            result: Float64s = now - before
        else:
            result = np.divide(now, before, out=np.full(len(now), np.nan), where=before != 0)
    return result
