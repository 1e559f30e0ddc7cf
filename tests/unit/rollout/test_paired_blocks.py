import itertools

import numpy as np
import pytest

from services.rollout import paired_blocks
from services.rollout.evidence import log_threshold


def test_wins_exactly_nothing_on_average_over_all_signs() -> None:
    """For sums that are as likely above as below, whatever their sizes are."""
    sizes = np.array([3.0, 0.1, 2.0, 50.0, 0.7, 4.0, 1.0, 9.0])
    signs = np.array(list(itertools.product([-1.0, 1.0], repeat=len(sizes))))
    found = np.exp(paired_blocks.log_evidence(np.full(signs.shape, 100.0), signs * sizes))
    assert found.mean(axis=0) == pytest.approx(np.ones(len(sizes)))


def test_first_blocks_only_tell_the_scale() -> None:
    found = paired_blocks.log_evidence(np.full(3, 100.0), np.array([5.0, 5.0, 5.0]))
    assert found[:2] == pytest.approx([0.0, 0.0])
    assert found[2] > 0


def test_twelve_blocks_suffice_for_the_largest_difference() -> None:
    found = paired_blocks.log_evidence(np.full(12, 100.0), np.full(12, 100.0))
    assert found[-1] > log_threshold(0.05, 8)


def test_one_block_never_suffices() -> None:
    found = paired_blocks.log_evidence(np.full(4, 100.0), np.array([1.0, -1.0, 1.0, 1e9]))
    assert found[-1] - found[-2] <= np.log(2) + 1e-6


def test_unit_of_the_differences_does_not_matter() -> None:
    sums, rows = np.array([3.0, -1.0, 4.0, 2.0]), np.array([50.0, 40.0, 60.0, 55.0])
    scaled = paired_blocks.log_evidence(rows, 1000 * sums, 1000 * 0.01)
    assert paired_blocks.log_evidence(rows, sums, 0.01) == pytest.approx(scaled)


def test_block_of_equal_versions_changes_nothing() -> None:
    assert paired_blocks.log_evidence(np.full(5, 10.0), np.zeros(5)) == pytest.approx(np.zeros(5))


def test_interval_has_the_mean_and_shrinks_with_blocks() -> None:
    random = np.random.default_rng(1)
    sums = random.normal(2.0, 3.0, 400)
    rows = np.full(400, 100.0)
    narrow = paired_blocks.interval(rows, sums, log_threshold(0.05))
    wide = paired_blocks.interval(rows[:40], sums[:40], log_threshold(0.05))
    assert narrow[0] < 0.02 < narrow[1]
    assert narrow[1] - narrow[0] < wide[1] - wide[0]


def test_interval_without_blocks_is_the_range() -> None:
    assert paired_blocks.interval(np.array([]), np.array([]), 3.0, bound=4.0) == (-4.0, 4.0)


def test_short_blocks_are_merged_and_a_rest_waits() -> None:
    rows, sums = paired_blocks.merged(np.array([10.0, 10.0, 15.0, 40.0, 5.0]), np.arange(5.0))
    assert rows.tolist() == [35.0, 40.0]
    assert sums.tolist() == [3.0, 3.0]
