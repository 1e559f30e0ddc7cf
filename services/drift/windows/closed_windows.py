"""Closed windows that late records may still change; a changed window is reported again, as a revision."""

from collections.abc import Iterable

from services.drift.windows.window import DriftWindow, DriftWindowState


class ClosedWindows:
    """The closed windows that end within the declared lateness before the open window."""

    def __init__(self, window_ms: int, lateness_ms: int, windows: Iterable[DriftWindow]) -> None:
        """Start with the windows of a snapshot."""
        self._window_ms = window_ms
        self._lateness_ms = lateness_ms
        self._windows = {(window.start_ms, window.end_ms): window for window in windows}
        self._changed = {key for key, window in self._windows.items() if window.state.is_touched}

    def keep(self, window: DriftWindow) -> None:
        """Keep a window that has been reported."""
        if self._lateness_ms:
            self._windows[window.start_ms, window.end_ms] = window

    def open_late(self, time_ms: int, open_start_ms: int, champion: int) -> DriftWindow | None:
        """Return the window of a late record, to be changed; None if the record is too late for it.

        Without records on time there was no window; then this creates it.
        """
        start_ms, end_ms = self._window_of(time_ms)
        if end_ms <= open_start_ms - self._lateness_ms:
            return None
        window = self._windows.get((start_ms, end_ms))
        if window is None:
            window = DriftWindow(DriftWindowState(start_ms, end_ms, champion=champion))
            self._windows[start_ms, end_ms] = window
        window.state.champion = window.state.champion or champion  # 0: it closed before the first prediction
        window.state.is_touched = True
        self._changed.add((start_ms, end_ms))
        return window

    def changed(self) -> list[DriftWindow]:
        """Return the windows that have changed since the last call, the earliest first."""
        changed = [self._windows[key] for key in sorted(self._changed)]
        self._changed.clear()
        for window in changed:
            window.state.is_touched = False
        return changed

    def remove_expired(self, open_start_ms: int) -> None:
        """Remove the windows that no record can change any more, when another window opens."""
        oldest_ms = open_start_ms - self._lateness_ms
        for key in [key for key in self._windows if key[1] <= oldest_ms]:
            del self._windows[key]

    def states(self) -> list[DriftWindowState]:
        """Return the states of the windows for a snapshot, in order."""
        return [self._windows[key].snapshot() for key in sorted(self._windows)]

    def _window_of(self, time_ms: int) -> tuple[int, int]:
        """Return start and end of the window of an event time.

        A window that is kept counts first: before the declared length changed, it had another one.
        """
        start_ms = time_ms // self._window_ms * self._window_ms
        aligned = start_ms, start_ms + self._window_ms
        if aligned in self._windows:
            return aligned
        return next((key for key in self._windows if key[0] <= time_ms < key[1]), aligned)
