"""False alarms, the interval of the beginning, and small shares of outliers."""

import msgspec
import numpy as np
import pytest
import scipy.stats

from services.drift.detectors.e_detector import EDetector
from services.drift.detectors.ranks import Ranking


def test_mean_time_between_false_alarms_is_at_least_the_threshold():
    """40 streams over ten times the threshold: at most 400 alarms on average, usually far fewer."""
    streams, threshold_rows = 40, 1000
    ranks = np.random.default_rng(6).random((10 * threshold_rows, streams))
    changes = EDetector(streams, threshold_rows).update(ranks, np.arange(len(ranks)))
    assert 20 < len(changes) < 10 * streams


def test_interval_holds_the_beginning_of_a_change_nine_times_in_ten():
    """A shift by half a standard deviation after 1,000 unchanged rows, in 100 streams."""
    ranks = np.random.default_rng(7).random((2000, 100))
    ranks[1000:] = scipy.stats.norm.cdf(scipy.stats.norm.ppf(ranks[1000:]) + 0.5)
    changes = EDetector(100, 10_000_000).update(ranks, np.arange(2000))
    firsts = {change.stream: change for change in reversed(changes)}
    inside = [change.since_from_ms <= 1000 <= change.since_to_ms for change in firsts.values()]
    assert len(inside) == 100
    assert sum(inside) >= 80


def test_values_far_out_of_range_are_found_though_their_share_is_small():
    """5 % of the values are a new category, which none of 2,000 known rows has."""
    random = np.random.default_rng(8)
    known = np.array([[[1000, 1000, 0]]])
    bins = random.integers(0, 2, (2000, 1))
    bins[1000:][random.random((1000, 1)) < 0.05] = 2
    changes = EDetector(1, 10_000_000).update(Ranking(known).rank(bins, random.random(2000)), np.arange(2000))
    assert 1000 < changes[0].detected_at_ms < 1500


def test_a_design_effect_makes_alarms_rarer() -> None:
    ranks = np.random.default_rng(9).random((2000, 1)) ** 0.8
    found = [
        EDetector(1, 1_000_000, np.array([effect])).update(ranks, np.arange(2000)) for effect in (1.0, 20.0)
    ]
    assert found[0]
    assert not found[1]


def test_a_long_silence_is_no_evidence() -> None:
    """The stakes grow by at most a day at once."""
    year_ms, day_ms = 365 * 86_400_000, 86_400_000
    detector = EDetector(1, 30 * day_ms)
    ranks = np.random.default_rng(10).random((64, 1))
    assert detector.update(ranks, np.arange(64) + np.repeat([0, year_ms], 32)) == []


def test_a_state_of_another_number_of_streams_is_refused() -> None:
    with pytest.raises(ValueError, match="reshape"):
        EDetector(2, 1000).restore(EDetector(1, 1000).state())


def test_a_corrupt_state_is_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        EDetector(1, 1000).restore(b"corrupt")
