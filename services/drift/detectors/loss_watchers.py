"""Shows the champion's losses to the detectors that a model declares."""

from collections.abc import Mapping

import numpy as np

from services.drift.detectors.protocol import DetectedChange, Detector
from services.drift.performance.loss_baseline import LossBaseline
from services.runtime.declaration import Monitoring


class LossWatchers:
    """Shows the champion's losses to the detectors of river that are declared."""

    def __init__(
        self, baseline: LossBaseline, monitoring: Monitoring, states: Mapping[str, bytes] | None = None
    ) -> None:
        """Start without evidence, or from states."""
        self._detectors: dict[str, Detector] = {}
        self._range = baseline.range
        if monitoring.detectors:
            from services.drift.detectors.river_detectors import RiverDetector  # late: imports river, 3 s

            self._detectors |= {f"river-{name}": RiverDetector(name, 1) for name in monitoring.detectors}
        for name in self._detectors.keys() & (states or {}).keys():
            self._detectors[name].restore((states or {})[name])

    def add(self, loss: float, time_ms: int, *, wrong: bool) -> list[tuple[str, DetectedChange]]:
        """Process one loss; detectors of errors get ``wrong``, whether the prediction was wrong."""
        if self._range is None or not self._detectors:
            return []
        times_ms = np.array([time_ms], dtype=np.int64)
        share = self._range.share(loss)
        changes = []
        for name, detector in self._detectors.items():
            value = float(wrong) if detector.judges_errors else share
            changes += [(name, change) for change in detector.update(np.array([[value]]), times_ms)]
        return changes

    def state(self) -> dict[str, bytes]:
        """Return the states, which `__init__` takes."""
        return {name: detector.state() for name, detector in self._detectors.items()}
