"""River's detectors: their input, and the states that they accept."""

from typing import get_args

import msgspec
import numpy as np
import pytest

from services.drift.detectors import river_detectors
from services.drift.detectors.river_detectors import RiverDetector, RiverState
from services.runtime.declaration import Detector


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


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", get_args(Detector))
def test_improving_losses_are_no_change(name: Detector, seed: int) -> None:
    """The share of wrong predictions, and so the mean loss, falls from 0.6 to 0.05."""
    random = np.random.default_rng(seed)
    shares = np.concatenate([np.full(600, 0.6), np.linspace(0.6, 0.05, 100), np.full(300, 0.05)])
    errors = random.random(len(shares)) < shares
    losses = np.where(errors, 0.8, 0.2) + random.uniform(-0.1, 0.1, len(shares))
    detector = RiverDetector(name, streams=1)
    found = detector.update(losses[:, None], np.arange(len(losses)) * 60_000)
    assert [change for change in found if change.detected_at_ms >= 600 * 60_000] == []


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", get_args(Detector))
def test_a_rise_after_a_fall_is_a_change(name: Detector, seed: int) -> None:
    """The share of wrong predictions falls from 0.6 to 0.1, and rises to 0.6 again."""
    random = np.random.default_rng(seed)
    errors = random.random(3000) < np.repeat([0.6, 0.1, 0.6], 1000)
    losses = np.where(errors, 0.8, 0.2) + random.uniform(-0.1, 0.1, len(errors))
    found = RiverDetector(name, streams=1).update(losses[:, None], np.arange(len(losses)) * 60_000)
    assert [change for change in found if change.detected_at_ms >= 2000 * 60_000] != []
