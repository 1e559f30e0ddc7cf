"""River's detectors with the interface of `protocol.Detector`: streams, times, a state of plain numbers."""

import collections
import functools
import importlib.metadata
import random
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from services.drift.detectors.protocol import DetectedChange, TimesMs, Values
from services.runtime.declaration import Detector

RIVER_VERSION = importlib.metadata.version("river")
"""Another version may have other fields: a detector of its state then starts empty."""
SEED = 1
"""Seed of KSWIN, which samples its window: two runs must draw the same samples."""
ERROR_MIN = 0.5
"""Minimum value that counts as an error, for detectors of errors."""
RECENT_WEIGHT = 1 / 64
"""Weight of the newest value in the recent mean, with which the direction of a change is decided."""
_OF_ERRORS = frozenset({"ddm", "eddm", "hddm_a", "hddm_w", "fhddm"})
_OF_RISES = _OF_ERRORS - {"eddm"}
"""Detectors that test for rises alone. Falls do not start them again, so the mean since the last change may
include higher values from before a fall, and says nothing about the direction of a later change."""


class RunningMean(msgspec.Struct, array_like=True):
    """The mean of all values since the last change, and that of recent ones."""

    count: int = 0
    mean: float = 0.0
    recent: float = 0.0

    def add(self, value: float) -> None:
        """Add a value."""
        self.count += 1
        self.mean += (value - self.mean) / self.count
        self.recent += (value - self.recent) * max(RECENT_WEIGHT, 1 / self.count)

    @property
    def has_risen(self) -> bool:
        """Whether recent values are above the mean."""
        return self.recent > self.mean


class RiverState(msgspec.Struct, array_like=True):
    """The states of all streams, as plain values of river's objects."""

    name: str
    river_version: str
    since_ms: list[int | None]
    """Start of each stream: the time of its first value, or of the first one after its last change."""
    detectors: list[Any]
    means: list[RunningMean] = []


class RiverDetector:
    """One of river's detectors on each of several streams of losses; a `protocol.Detector`.

    ADWIN, Page-Hinkley and KSWIN find falls, too, and EDDM finds changes while errors become rare. A fall is
    an improvement: the detector starts again and returns no change. The other detectors test for rises alone.
    None dates a change, so it lies between the previous change and the detection. None has a bound on its
    false alarms over time.

    Args:
        name: The detector's name in model.yaml, e.g. ``adwin``.
        streams: Number of streams.
        options: Parameters of river's class; default: river's own defaults.

    Examples:
        >>> detector = RiverDetector("adwin", streams=1)
        >>> losses = np.concatenate([np.full(500, 0.2), np.full(500, 0.8)])
        >>> change = detector.update(losses[:, None], np.arange(1000) * 60_000)[0]
        >>> change.detected_at_ms // 60_000
        543
    """

    def __init__(self, name: Detector, streams: int, options: Mapping[str, float] | None = None) -> None:
        """Start without evidence of a change."""
        self._name = name
        self.judges_errors = name in _OF_ERRORS
        self._make = functools.partial(_makers()[name], **(options or {}))
        self._detectors = [self._make() for _ in range(streams)]
        self._since_ms: list[int | None] = [None] * streams
        self._means = [RunningMean() for _ in range(streams)]

    def update(self, values: Values, times_ms: TimesMs) -> list[DetectedChange]:
        """Process values of shape ``(n_rows, n_streams)``; see `protocol.Detector`."""
        changes = []
        inputs = self._inputs(values)
        for row, shown, time_ms in zip(values.tolist(), inputs.tolist(), times_ms.tolist(), strict=True):
            for stream, (detector, value) in enumerate(zip(self._detectors, shown, strict=True)):
                self._means[stream].add(row[stream])
                since_ms = self._since_ms[stream]
                if since_ms is None:
                    since_ms = self._since_ms[stream] = time_ms
                detector.update(value)
                if detector.drift_detected:
                    if self._name in _OF_RISES or self._means[stream].has_risen:
                        changes.append(DetectedChange(stream, time_ms, time_ms, since_ms, time_ms, 1.0, 1.0))
                    self._since_ms[stream], self._means[stream] = None, RunningMean()
                    self._detectors[stream] = self._make()
        return changes

    def _inputs(self, values: Values) -> Values | npt.NDArray[np.int64]:
        if not self.judges_errors:
            return values
        errors = (values >= ERROR_MIN).astype(np.int64)
        return (
            1 - errors if self._name == "fhddm" else errors
        )  # FHDDM watches correct predictions instead of errors

    def state(self) -> bytes:
        """Return the complete state, which `restore` takes."""
        states = [_plain(detector) for detector in self._detectors]
        return msgspec.msgpack.encode(
            RiverState(self._name, RIVER_VERSION, list(self._since_ms), states, self._means)
        )

    def restore(self, state: bytes) -> None:
        """Continue from a state; ignore a state of another river version, whose fields may differ."""
        decoded = msgspec.msgpack.decode(state, type=RiverState)
        if (decoded.name, decoded.river_version) != (self._name, RIVER_VERSION):
            return
        self._since_ms = list(decoded.since_ms)
        self._detectors = [_filled(self._make(), plain) for plain in decoded.detectors]
        if decoded.means:
            self._means = decoded.means


def _makers() -> Mapping[str, Callable[[], Any]]:
    from river import drift  # late: imports scikit-learn and pandas, 3 s

    return {
        "adwin": drift.ADWIN,
        "page_hinkley": drift.PageHinkley,
        "kswin": functools.partial(drift.KSWIN, seed=SEED),
        "ddm": drift.binary.DDM,
        "eddm": drift.binary.EDDM,
        "hddm_a": drift.binary.HDDMA,
        "hddm_w": drift.binary.HDDMW,
        "fhddm": drift.binary.FHDDM,
    }


def _plain(value: Any) -> Any:
    """Return the content of a river object as numbers, lists and maps."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value)
    if isinstance(value, collections.deque):
        return [_plain(item) for item in value]
    if isinstance(value, random.Random):
        version, numbers, gauss = value.getstate()
        return [version, list(numbers), gauss]
    if hasattr(value, "__setstate__"):  # an object of river's Rust core
        data = bytes(value.__getstate__())
        return [data, zlib.crc32(data)]
    return {name: _plain(item) for name, item in vars(value).items() if not callable(item)}


def _filled(fresh: Any, plain: Any) -> Any:
    """Write the result of `_plain` into a new object of the same class; no class is created by name."""
    if isinstance(fresh, collections.deque):
        return collections.deque(plain, maxlen=fresh.maxlen)
    if isinstance(fresh, random.Random):
        fresh.setstate((plain[0], tuple(plain[1]), plain[2]))
        return fresh
    if isinstance(plain, list):
        data, checksum = plain
        if zlib.crc32(data) != checksum:  # river aborts the process on corrupt data
            raise ValueError("the state of a river detector is corrupt: its checksum differs")
        fresh.__setstate__(data)
        return fresh
    if isinstance(plain, dict):
        for name, item in plain.items():
            setattr(fresh, name, _filled(getattr(fresh, name), item))
        return fresh
    return plain
