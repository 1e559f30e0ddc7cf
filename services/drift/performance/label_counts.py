"""How many labels of one champion's predictions became known, by window. Pure."""

import collections

import msgspec

WINDOWS_REMEMBERED_MAX = 400
"""Maximum closed windows kept: a year of days."""


class WindowLabels(msgspec.Struct, array_like=True):
    """The labels that became known in one window."""

    start_ms: int
    labels: int


class LabelCountsState(msgspec.Struct):
    """All that `LabelCounts` knows."""

    windows: list[WindowLabels] = []
    labels: int = 0
    current: WindowLabels = msgspec.field(default_factory=lambda: WindowLabels(0, 0))


class LabelCounts:
    """Counts the labels of one champion's predictions, in the order in which they became known."""

    def __init__(self, window_start_ms: int, state: LabelCountsState | None = None) -> None:
        """Start at a promotion, with the start of the open window, or from a state of the same champion."""
        self._windows = collections.deque(state.windows if state else (), maxlen=WINDOWS_REMEMBERED_MAX)
        self._current = state.current if state else WindowLabels(window_start_ms, 0)
        self.labels = state.labels if state else 0
        """Number of labels of this champion's predictions."""

    def add(self) -> None:
        """Count a label."""
        self.labels += 1
        self._current.labels += 1

    def close_window(self, end_ms: int) -> None:
        """Keep the window that ends here and begin the next."""
        self._windows.append(self._current)
        self._current = WindowLabels(end_ms, 0)

    def labels_since(self, start_ms: int) -> int:
        """Return the number of labels of the windows that began at a time or later."""
        return sum(window.labels for window in (*self._windows, self._current) if window.start_ms >= start_ms)

    def state(self) -> LabelCountsState:
        """Return what `__init__` takes."""
        return LabelCountsState(list(self._windows), self.labels, self._current)
