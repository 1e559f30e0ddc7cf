"""Properties of every detector, Driftline's and river's."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.drift.detectors.e_detector import EDetector
from services.drift.detectors.ranks import Ranking
from services.drift.detectors.river_detectors import RiverDetector
from services.monitoring import reference
from services.runtime.declaration import Detector

STREAMS = 2
ROW_MS = 1000
MONTH_MS = 30 * 24 * 3_600_000
RIVER_DETECTORS: tuple[Detector, ...] = (
    "adwin",
    "page_hinkley",
    "kswin",
    "ddm",
    "eddm",
    "hddm_a",
    "hddm_w",
    "fhddm",
)


class Ranked:
    """An `EDetector` with ranks against 2,000 known values, as in the drift process."""

    def __init__(self, streams=STREAMS, known=None):
        known = np.random.default_rng(99).beta(2, 5, 2000) if known is None else known
        made = reference.of_numbers("x", known)
        self.edges = np.array(made.edges)
        self.ranking = Ranking(np.array([[made.counts]] * streams))
        self.detector = EDetector(streams, MONTH_MS)
        self.random = np.random.default_rng(7)

    def update(self, values, times_ms):
        bins = np.searchsorted(self.edges, values, side="right")
        return self.detector.update(self.ranking.rank(bins, self.random.random(len(values))), times_ms)

    def state(self):
        return self.detector.state()

    def restore(self, state):
        self.detector.restore(state)


CATALOGUE: dict[str, Callable[[int], Any]] = {
    "e-detector": Ranked,
    **{name: functools.partial(RiverDetector, name) for name in RIVER_DETECTORS},
}
every = pytest.mark.parametrize("name", CATALOGUE)
ours = pytest.mark.parametrize("name", ["e-detector"])


def streams_of(name):
    return 1 if name == "kswin" else STREAMS  # KSWIN tests at each value: 0.3 ms


def values_of(name, rows, seed=1, high_from=10**9):
    """Return low values around 0.29; from a row on, those of the first stream are high."""
    values = np.random.default_rng(seed).beta(2, 5, (rows, streams_of(name)))
    values[high_from:, 0] = 1 - values[high_from:, 0] / 4
    return values


def run(detector, values, first_row=0):
    times_ms = (first_row + np.arange(len(values))) * ROW_MS
    return detector.update(values, times_ms)


def fresh(name):
    return CATALOGUE[name](streams_of(name))


@every
def test_same_values_give_the_same_changes(name):
    """A detector uses no clock and no unseeded random numbers."""
    values = values_of(name, 1500, high_from=700)
    first, second = fresh(name), fresh(name)
    assert run(first, values) == run(second, values)
    assert first.state() == second.state()


@every
@settings(max_examples=5)
@given(cuts=st.lists(st.integers(0, 1200), max_size=4))
def test_slices_and_restarts_change_nothing(name, cuts):
    """A restored detector continues with identical results, wherever the input was cut."""
    values = values_of(name, 1200, high_from=600)
    whole = fresh(name)
    expected = run(whole, values)
    part, found, ranked = fresh(name), [], None
    bounds = [0, *sorted(cuts), 1200]
    for start, end in itertools.pairwise(bounds):
        again = fresh(name)
        again.restore(part.state())
        if isinstance(part, Ranked):
            again.ranking, again.random = part.ranking, part.random
        part, ranked = again, part
        found += run(part, values[start:end], start)
    assert ranked is not None
    assert found == expected
    assert part.state() == whole.state()


@every
def test_big_shift_is_found_in_its_own_stream(name):
    """Within 1,000 rows; Driftline's detectors find nothing in the unchanged stream."""
    found = run(fresh(name), values_of(name, 2000, high_from=1000))
    assert any(change.stream == 0 and change.detected_at_ms >= 1000 * ROW_MS for change in found)
    if name not in RIVER_DETECTORS:
        assert {change.stream for change in found} == {0}


@every
def test_interval_holds_the_beginning_of_a_big_shift(name):
    """For a detector that cannot date a change: from the previous change to the detection."""
    found = run(fresh(name), values_of(name, 2000, high_from=1000))
    first = next(change for change in found if change.stream == 0 and change.detected_at_ms >= 1000 * ROW_MS)
    assert first.since_from_ms <= 1000 * ROW_MS + 32 * ROW_MS
    assert first.since_from_ms <= first.since_ms <= first.since_to_ms <= first.detected_at_ms


@every
def test_a_detector_starts_again_after_a_change(name):
    """A second shift is found, too."""
    values = values_of(name, 4000, high_from=1000)
    values[2000:3000] = values_of(name, 1000, seed=2)
    found = {
        change.detected_at_ms // (1000 * ROW_MS) for change in run(fresh(name), values) if not change.stream
    }
    assert 1 in found
    assert found & {2, 3}


@every
def test_memory_is_bounded(name):
    """Ten times the rows need at most a tenth more; ADWIN's memory grows with their logarithm."""
    detector = fresh(name)
    values = values_of(name, 20_000 if name != "kswin" else 2000)
    tenth = len(values) // 10
    run(detector, values[:tenth])
    early = len(detector.state())
    run(detector, values[tenth:], tenth)
    assert len(detector.state()) <= max(
        early * (1.1 if name != "adwin" else 2.5), 120_000 * (name == "e-detector")
    )


@every
def test_constant_input_is_no_change(name):
    """A feature with one value, before and after."""
    detector = Ranked(known=np.full(500, 0.25)) if name == "e-detector" else fresh(name)
    assert run(detector, np.full((3000, streams_of(name)), 0.25)) == []


@every
def test_one_outlier_is_no_change(name):
    """One extreme value among 600; detectors of errors have seen one error in ten before."""
    values = values_of(name, 600)
    if name in RIVER_DETECTORS:
        values[:] = 0.25
        values[9::10] = 0.75
    values[304] = 1.0
    assert run(fresh(name), values) == []


@ours
@pytest.mark.parametrize("known_rows", [1, 50, 2000])
def test_unchanged_streams_raise_no_alarm(name, known_rows):
    """Even with a reference of 1 or 50 rows: 20 streams of 3,000 rows, one alarm allowed in 20 months."""
    for seed in range(20):
        known = np.random.default_rng(100 + seed).beta(2, 5, known_rows)
        detector = Ranked(known=known) if name == "e-detector" else fresh(name)
        assert run(detector, values_of(name, 3000, seed=seed)) == []


@ours
def test_a_first_value_is_no_change(name):
    """Even if it is an outlier."""
    assert run(fresh(name), np.ones((1, streams_of(name)))) == []
