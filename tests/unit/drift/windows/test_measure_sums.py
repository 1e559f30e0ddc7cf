"""Sums of measures over labels, and of losses compared with the champion's."""

import pytest

from services.drift.windows.measure_sums import SQUARE_MAX, ComparedSums, Comparison, MeasureSums, block_of
from services.monitoring.arm_comparison import BLOCKS
from services.monitoring.model_metrics import MeasureRange


def test_squares_of_large_values_stay_finite():
    sums = MeasureSums()
    sums.add([1e200])
    assert sums.squares.sum == SQUARE_MAX


def test_merged_losses_are_those_of_all_labels():
    comparison = Comparison(1, MeasureRange(0.0, 2.0))
    losses = [comparison.own(0.25 * number, number % BLOCKS) for number in range(9)]
    first, second, all_losses = ComparedSums(), ComparedSums(), ComparedSums()
    first.add(losses[:4])
    second.add(losses[4:])
    all_losses.add(losses)
    first.merge(second)
    assert first.record() == all_losses.record()
    assert first.shares.total.sum == all_losses.shares.total.sum == pytest.approx(sum(range(9)) / 8)


def test_equal_losses_of_a_shadow_and_the_champion_are_half_of_the_range():
    comparison = Comparison(1, MeasureRange(0.0, 2.0))
    assert comparison.paired(0.7, 0.7, 0).share == 0.5
    assert comparison.paired(5.0, 0.0, 0).share == 1.0
    assert Comparison().paired(0.7, 0.2, 0).share is None


def test_labels_outside_the_window_count_in_its_first_or_last_block():
    assert [block_of(time_ms, 100, 200) for time_ms in (0, 100, 199, 500)] == [0, 0, BLOCKS - 1, BLOCKS - 1]
