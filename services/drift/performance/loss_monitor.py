"""The champion's realised losses: their mean over the latest windows, and whether it rose (ADWIN).

Drift of the features alone requests no retraining: weather drifts every day. Only a loss that rose does.
"""

import collections
import importlib.metadata
import zlib

import msgspec
from river._river_rust.drift import AdaptiveWindowing  # `river.drift` imports scikit-learn and pandas: 3 s

RIVER_VERSION = importlib.metadata.version("river")
WINDOWS_REMEMBERED_MAX = 400
"""Maximum closed windows kept to date the start of a rise: a year of days."""


class AdwinState(msgspec.Struct, array_like=True):
    """The state of river's ADWIN, in river's own serialisation: plain numbers, no code."""

    detected: bool
    data: bytes
    checksum: int
    """CRC-32 of the data: river aborts the process if it cannot read the data."""
    river_version: str
    """Another version may use another layout: the detector then starts empty."""


class WindowLoss(msgspec.Struct, array_like=True):
    """The champion's losses over the labels of one closed window."""

    start_ms: int
    labels: int
    loss_sum: float


class LossMonitorState(msgspec.Struct):
    """All that `LossMonitor` knows."""

    detector: AdwinState
    windows: list[WindowLoss]
    labels: int
    current: WindowLoss


class LossRiseDetector:
    """River's ADWIN, with a direction and a state that can be kept.

    It is the core of `river.drift.ADWIN` with the defaults of that class, and like it starts empty after each
    change. (Bifet and Gavalda, "Learning from time-changing data with adaptive windowing", SDM 2007.)

    >>> detector = LossRiseDetector(delta=0.002)
    >>> [number for number in range(1000) if detector.update(0.2 if number < 500 else 0.9)]
    [543]
    >>> round(detector.mean, 1)
    0.9
    """

    def __init__(self, delta: float, state: AdwinState | None = None) -> None:
        """Start empty, or from a snapshot of the same river version.

        Args:
            delta: Significance of ADWIN, 0 to 1: a smaller one detects later and has fewer false alarms.
            state: Of another version of river, or damaged, it is ignored.
        """
        self._delta = delta
        self._reset()
        self._detected = False
        if state is not None and self.can_restore(state):
            self._adwin.__setstate__(state.data)
            self._detected = state.detected

    @staticmethod
    def can_restore(state: AdwinState) -> bool:
        """Tell whether a state is undamaged and was written by this version of river."""
        return state.river_version == RIVER_VERSION and zlib.crc32(state.data) == state.checksum

    def update(self, loss: float) -> bool:
        """Add a loss; tell whether the mean has just risen."""
        if self._detected:
            self._reset()
        before = self.mean
        self._detected = bool(self._adwin.update(loss))
        return self._detected and self.mean > before

    @property
    def mean(self) -> float:
        """Mean loss since the last change; 0 without losses."""
        width = self._adwin.get_width()
        return float(self._adwin.get_total() / width) if width else 0.0

    @property
    def width(self) -> int:
        """Number of losses since the last change."""
        return int(self._adwin.get_width())

    def state(self) -> AdwinState:
        """Return what `__init__` takes."""
        data: bytes = self._adwin.__getstate__()
        return AdwinState(self._detected, data, zlib.crc32(data), RIVER_VERSION)

    def _reset(self) -> None:
        self._adwin = AdaptiveWindowing(
            delta=self._delta, clock=32, max_buckets=5, min_window_length=5, grace_period=10
        )


class LossMonitor:
    """Monitors the losses of one champion, in the order in which its labels became known."""

    def __init__(
        self, delta: float, window_start_ms: int, state: LossMonitorState | None = None, *, unit: float = 1.0
    ) -> None:
        """Start at a promotion, or from a snapshot.

        Args:
            delta: Significance of ADWIN, 0 to 1.
            window_start_ms: Start of the open window.
            state: Of the same champion.
            unit: ADWIN gets losses divided by this; its bounds are meant for values that are rarely above 4.
        """
        self._unit = unit
        self._detector = LossRiseDetector(delta, state.detector if state else None)
        self._windows = collections.deque(state.windows if state else (), maxlen=WINDOWS_REMEMBERED_MAX)
        self._current = state.current if state else WindowLoss(window_start_ms, 0, 0.0)
        self.labels = state.labels if state else 0
        """Number of labels of this champion's predictions."""

    def add(self, loss: float) -> bool:
        """Add the loss of an outcome; tell whether ADWIN has just seen the mean rise."""
        self.labels += 1
        self._current.labels += 1
        self._current.loss_sum += loss
        return self._detector.update(loss / self._unit)

    def close_window(self, end_ms: int) -> None:
        """Keep the window that ends here and begin the next."""
        self._windows.append(self._current)
        self._current = WindowLoss(end_ms, 0, 0.0)

    def recent_loss(self, windows: int) -> float | None:
        """Return the mean loss over the last closed windows with labels; None while there are fewer."""
        recent = [window for window in self._windows if window.labels][-windows:]
        if len(recent) < windows:
            return None
        return sum(window.loss_sum for window in recent) / sum(window.labels for window in recent)

    def recent_start_ms(self, windows: int) -> int:
        """Return the start of the first window that `recent_loss` covers."""
        recent = [window for window in self._windows if window.labels][-windows:]
        return recent[0].start_ms if recent else self._current.start_ms

    @property
    def window_start_ms(self) -> int:
        """Start of the open window."""
        return self._current.start_ms

    @property
    def mean_since_change(self) -> float:
        """Mean loss since the last change that ADWIN saw."""
        return self._detector.mean * self._unit

    def labels_since(self, start_ms: int) -> int:
        """Return the number of labels of the windows that began at a time or later."""
        return sum(window.labels for window in (*self._windows, self._current) if window.start_ms >= start_ms)

    def change_start_ms(self) -> int:
        """Return the start of the window with the first loss since the last change that ADWIN saw."""
        missing = self._detector.width - self._current.labels
        started = self._current
        for window in reversed(self._windows):
            if missing <= 0:
                break
            started = window
            missing -= window.labels
        return started.start_ms

    def state(self) -> LossMonitorState:
        """Return what `__init__` takes."""
        return LossMonitorState(self._detector.state(), list(self._windows), self.labels, self._current)
