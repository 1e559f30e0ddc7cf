"""River's detectors behind our interface: with many streams, times, and a state of plain numbers."""

import collections
import functools
import random
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from services.drift.detectors.protocol import DetectedChange, TimesMs, Values
from services.drift.performance.loss_monitor import RIVER_VERSION
from services.runtime.declaration import Detector

SEED = 1
"""Of KSWIN, which draws from its window: two runs must draw the same."""
ERROR_MIN = 0.5
"""From this value on, detectors of errors count one."""
_OF_ERRORS = frozenset({"ddm", "eddm", "hddm_a", "hddm_w", "fhddm"})


class RiverState(msgspec.Struct, array_like=True):
    """The states of all streams as river's objects hold them."""

    name: str
    river_version: str
    since_ms: list[int | None]
    """Where each stream began: at its first value, or at its last change."""
    detectors: list[Any]


class RiverDetector:
    """One of river's detectors on each of several streams; a `detection.Detector`.

    They tell that something changed, not since when: the change began between the last one and now. Nothing
    bounds their false alarms over time.
    """

    def __init__(self, name: Detector, streams: int, options: Mapping[str, float] | None = None) -> None:
        """Start calm, with river's own defaults for the options that are not given."""
        self._name = name
        self.judges_errors = name in _OF_ERRORS
        self._make = functools.partial(_makers()[name], **(options or {}))
        self._detectors = [self._make() for _ in range(streams)]
        self._since_ms: list[int | None] = [None] * streams

    def update(self, values: Values, times_ms: TimesMs) -> list[DetectedChange]:
        """Take values of shape ``(n_rows, n_streams)``; see `detection.Detector`."""
        changes = []
        inputs = self._inputs(values)
        for row, time_ms in zip(inputs.tolist(), times_ms.tolist(), strict=True):
            for stream, (detector, value) in enumerate(zip(self._detectors, row, strict=True)):
                since_ms = self._since_ms[stream]
                if since_ms is None:
                    since_ms = self._since_ms[stream] = time_ms
                detector.update(value)
                if detector.drift_detected:
                    changes.append(DetectedChange(stream, time_ms, time_ms, since_ms, time_ms, 1.0, 1.0))
                    self._since_ms[stream] = None
                    self._detectors[stream] = self._make()
        return changes

    def _inputs(self, values: Values) -> Values | npt.NDArray[np.int64]:
        if not self.judges_errors:
            return values
        errors = (values >= ERROR_MIN).astype(np.int64)
        return 1 - errors if self._name == "fhddm" else errors  # it watches what is right, and no error

    def state(self) -> bytes:
        """Return what `restore` takes."""
        kept = [_plain(detector) for detector in self._detectors]
        return msgspec.msgpack.encode(RiverState(self._name, RIVER_VERSION, list(self._since_ms), kept))

    def restore(self, state: bytes) -> None:
        """Go on from a state; begin anew if another version of river wrote it: it may mean other things."""
        found = msgspec.msgpack.decode(state, type=RiverState)
        if (found.name, found.river_version) != (self._name, RIVER_VERSION):
            return
        self._since_ms = list(found.since_ms)
        self._detectors = [_filled(self._make(), kept) for kept in found.detectors]


def _makers() -> Mapping[str, Callable[[], Any]]:
    from river import drift  # imports scikit-learn and pandas: 3 s

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
    """Turn what a river object holds into numbers, lists and maps."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value)
    if isinstance(value, collections.deque):
        return [_plain(item) for item in value]
    if isinstance(value, random.Random):
        version, numbers, gauss = value.getstate()
        return [version, list(numbers), gauss]
    if hasattr(value, "__setstate__"):  # of river's core in Rust
        data = bytes(value.__getstate__())
        return [data, zlib.crc32(data)]
    return {name: _plain(item) for name, item in vars(value).items() if not callable(item)}


def _filled(fresh: Any, kept: Any) -> Any:
    """Put what `_plain` made into a fresh object of the same kind; nothing is made by name."""
    if isinstance(fresh, collections.deque):
        return collections.deque(kept, maxlen=fresh.maxlen)
    if isinstance(fresh, random.Random):
        fresh.setstate((kept[0], tuple(kept[1]), kept[2]))
        return fresh
    if isinstance(kept, list):
        data, checksum = kept
        if zlib.crc32(data) != checksum:  # river aborts the process on data that it cannot read
            raise ValueError("the state of a river detector is damaged")
        fresh.__setstate__(data)
        return fresh
    if isinstance(kept, dict):
        for name, item in kept.items():
            setattr(fresh, name, _filled(getattr(fresh, name), item))
        return fresh
    return kept
