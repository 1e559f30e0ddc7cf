"""The numbers of a window beside those of its reference."""

import msgspec
import numpy as np
import pytest

from services.drift.binning import value_statistics
from services.drift.binning.binning import PredictionRows, RowBinner
from services.drift.windows.window import DriftWindow, DriftWindowState
from services.monitoring import design_effect
from services.monitoring import reference as made
from streams import records
from tests.unit.drift import scenario
from tests.unit.drift.scenario import HOUR_MS, START_MS

KNOWN = np.random.default_rng(1).normal(20, 3, 2000)
NOW = np.random.default_rng(2).normal(23, 4, 300)


def reference() -> records.Reference:
    times_ms = np.arange(len(KNOWN)) * 1000
    blocks = design_effect.Blocks(times_ms, HOUR_MS)
    known = scenario.reference()
    return msgspec.structs.replace(
        known, features=[made.of_column("x", KNOWN, times_ms, (), blocks), known.features[1]]
    )


def window(state: DriftWindowState | None = None) -> DriftWindow:
    binner = RowBinner(reference(), scenario.declaration())
    found = DriftWindow(state or DriftWindowState(START_MS, START_MS + HOUR_MS), binner)
    found.state.version = 1
    return found


def count(into: DriftWindow, values: list[float]) -> None:
    rows = PredictionRows(
        [
            scenario.prediction(
                number, START_MS + number, version=1, features=[value, "red"], score=0.1 + number % 9 / 10
            )
            for number, value in enumerate(values)
        ]
    )
    assert into.row_binner is not None
    into.count(rows, into.row_binner.assign(rows), 0, len(rows))


def test_means_and_deviations_are_those_of_the_values_and_categories_have_none() -> None:
    found = window()
    count(found, NOW.tolist())
    x, colour = value_statistics.of_window(found.features, found.values)
    assert colour is None
    assert x is not None
    assert x.mean == pytest.approx(NOW.mean(), rel=1e-5)
    assert x.deviation == pytest.approx(NOW.std(ddof=1), rel=1e-5)
    assert x.quantiles[1:4] == pytest.approx(np.quantile(NOW, [0.25, 0.5, 0.75]), abs=0.3)
    assert found.outputs.score is not None
    (score,) = value_statistics.of_window([found.outputs.score], found.score_values)
    assert score is not None
    assert score.mean == pytest.approx(0.5, abs=0.02)


def test_a_window_that_an_older_version_has_begun_stays_without_them() -> None:
    old = window()
    count(old, NOW.tolist())
    state = old.snapshot()
    state.values = None
    restored = window(state)
    count(restored, NOW.tolist())
    assert value_statistics.of_window(restored.features, restored.values) == [None, None]
    assert restored.snapshot().values is None


def test_a_window_goes_on_from_its_snapshot() -> None:
    whole, part = window(), window()
    count(whole, NOW.tolist())
    count(part, NOW[200:].tolist())
    stored = msgspec.json.decode(msgspec.json.encode(part.snapshot()), type=DriftWindowState)
    part = window(stored)
    count(part, NOW[:200].tolist())
    assert value_statistics.of_window(part.features, part.values) == value_statistics.of_window(
        whole.features, whole.values
    )


def test_a_reference_has_the_values_of_training_or_none_if_it_is_older() -> None:
    known = reference().features[0]
    found = value_statistics.of_reference(known)
    assert found is not None
    assert found.mean == pytest.approx(KNOWN.mean(), rel=1e-5)
    assert found.deviation == pytest.approx(KNOWN.std(ddof=1), rel=1e-5)
    assert found.quantiles == pytest.approx(np.quantile(KNOWN, [0.05, 0.25, 0.5, 0.75, 0.95]), abs=0.3)
    assert value_statistics.of_reference(msgspec.structs.replace(known, mean=None)) is None


FAR = np.random.default_rng(4)


@pytest.mark.parametrize(
    "values",
    [
        FAR.normal(20, 3, 300) * 1000,  # another unit
        FAR.normal(20, 3, 300) - 5000,
        np.append(np.full(299, 60.0), 1e9),  # one value much farther than the others
        FAR.lognormal(0, 4, 300),
        FAR.normal(0, 1e12, 300),
    ],
)
def test_quantiles_far_outside_the_range_of_training_are_right(values) -> None:
    found = window()
    count(found, values.tolist())
    x, _ = value_statistics.of_window(found.features, found.values)
    assert x is not None
    exact = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95], method="inverted_cdf")
    distances = np.maximum(KNOWN.min() - exact, exact - KNOWN.max())
    assert (np.abs(np.array(x.quantiles) - exact) <= np.where(distances > 0, distances / 16 + 0.1, 1.0)).all()
