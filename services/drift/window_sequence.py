"""The windows of one model: the open one, and the closed ones that late records may still change."""

from collections.abc import Iterable

from services.drift.references import References
from services.drift.windows.closed_windows import ClosedWindows
from services.drift.windows.window import DriftWindow, DriftWindowState
from services.runtime.declaration import ModelDeclaration


class WindowSequence:
    """Opens one window of event time after another, each aligned to the epoch."""

    def __init__(
        self,
        declaration: ModelDeclaration,
        references: References,
        open_window: DriftWindowState | None,
        closed_windows: Iterable[DriftWindowState],
    ) -> None:
        """Start from the windows of a state, or with none."""
        monitoring = declaration.monitoring
        self._window_ms = monitoring.window_ms
        self._references = references
        self.open = None if open_window is None else self._restored(open_window)
        """None before the first record, and while nothing waits for labels."""
        self._closed = ClosedWindows(
            self._window_ms, monitoring.lateness_ms, map(self._restored, closed_windows)
        )

    def open_at(self, time_ms: int) -> DriftWindow:
        """Open the window that contains an event time; forget those that no record can change any more."""
        start_ms = time_ms // self._window_ms * self._window_ms
        self._closed.remove_expired(start_ms)
        self.open = DriftWindow(DriftWindowState(start_ms, start_ms + self._window_ms))
        return self.open

    def close(self) -> None:
        """Close the open window, which has been reported."""
        assert self.open is not None, "no window is open"
        self._closed.keep(self.open)
        self.open = None

    def late(self, time_ms: int, champion: int) -> DriftWindow | None:
        """Return the closed window of a late record; None if the record is too late to change it."""
        assert self.open is not None, "a record is late for the window that is open"
        return self._closed.open_late(time_ms, self.open.start_ms, champion)

    def changed(self) -> list[DriftWindow]:
        """Return the closed windows that changed since the last call, the earliest first."""
        return self._closed.changed()

    def choose_version(self, window: DriftWindow, champion: int) -> None:
        """Compare a window with the reference of this champion, unless it has one already."""
        window.choose_version(champion, self._references.row_binner(champion))

    def states(self) -> tuple[DriftWindowState | None, list[DriftWindowState]]:
        """Return the states of the open window and of the closed ones."""
        return self.open.snapshot() if self.open else None, self._closed.states()

    def _restored(self, state: DriftWindowState) -> DriftWindow:
        return DriftWindow(state, self._references.row_binner(state.version))
