"""River's detectors: their input, and the states that they accept."""

import msgspec
import numpy as np
import pytest

from services.drift.detectors import river_detectors
from services.drift.detectors.river_detectors import RiverDetector, RiverState


def run(detector: RiverDetector, errors: list[float]) -> list[int]:
    values = np.array(errors)[:, None]
    return [change.detected_at_ms for change in detector.update(values, np.arange(len(errors)))]


def test_a_rising_error_rate_is_found_by_detectors_of_errors() -> None:
    """FHDDM of river watches correct predictions, so its input is inverted."""
    errors = [float(number % 10 == 0) for number in range(500)] + [1.0] * 200
    for name in ("ddm", "fhddm"):
        detector = RiverDetector(name, 1)
        assert detector.judges_errors
        assert any(at >= 500 for at in run(detector, errors))


def test_a_corrupt_state_is_refused() -> None:
    """River would abort the process on it."""
    state = msgspec.msgpack.decode(RiverDetector("adwin", 1).state(), type=RiverState)
    data, checksum = state.detectors[0]["_helper"]
    state.detectors[0]["_helper"] = [data, checksum + 1]
    with pytest.raises(ValueError, match="corrupt"):
        RiverDetector("adwin", 1).restore(msgspec.msgpack.encode(state))


def test_a_state_of_another_version_of_river_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = RiverDetector("page_hinkley", 1)
    run(detector, [0.2] * 50)
    state = detector.state()
    monkeypatch.setattr(river_detectors, "RIVER_VERSION", "0.0.0")
    fresh, restored = RiverDetector("page_hinkley", 1), RiverDetector("page_hinkley", 1)
    restored.restore(state)
    assert restored.state() == fresh.state()
