import numpy as np
import pytest

from services.retraining.gates.block_mean import BLOCKS_MIN, BlockMean, blocks_of

RUNS = 2000


def days(count: int, correlation: float, seed: int) -> np.ndarray:
    """Return levels of days (n_runs, n_days) with mean 0, each correlated with the day before."""
    random = np.random.default_rng(seed)
    levels = random.normal(size=(RUNS, count))
    for day in range(1, count):
        levels[:, day] = correlation * levels[:, day - 1] + np.sqrt(1 - correlation**2) * levels[:, day]
    return levels


@pytest.mark.parametrize(("count", "correlation"), [(7, 0.0), (7, 0.3), (14, 0.0), (14, 0.5), (28, 0.7)])
def test_interval_covers_with_few_correlated_days(count: int, correlation: float):
    block_of = np.arange(count)
    means = [BlockMean.of(values, block_of) for values in days(count, correlation, seed=count)]
    passed = [each.interval(0.05)[1] < 0 for each in means if each is not None]

    assert len(passed) == RUNS
    assert np.mean(passed) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / RUNS)


def test_rows_of_a_day_that_are_alike_count_as_one():
    values = np.repeat(days(14, 0.0, seed=1)[0], 500)
    once = BlockMean.of(values[::500], np.arange(14))
    often = BlockMean.of(values, np.repeat(np.arange(14), 500))

    assert once is not None
    assert often is not None
    assert often.error == pytest.approx(once.error)
    assert often.mean == pytest.approx(once.mean)


def test_too_few_blocks_have_no_interval():
    assert BlockMean.of(np.ones(100), np.arange(100) % (BLOCKS_MIN - 1)) is None
    assert BlockMean.of(np.ones(100), np.arange(100) % BLOCKS_MIN) is not None


def test_error_is_at_least_that_of_independent_rows():
    values = np.tile([1.0, -1.0], 50)  # each block sums to 0
    found = BlockMean.of(values, np.repeat(np.arange(10), 10))

    assert found is not None
    assert found.error == pytest.approx(values.std(ddof=1) / 10)


def test_blocks_end_with_the_latest_row():
    assert blocks_of(np.array([0, 9, 10, 19, 20]), 10).tolist() == [2, 1, 1, 0, 0]
    assert blocks_of(np.array([], dtype=np.int64), 10).tolist() == []


def test_p_value_agrees_with_the_interval():
    found = BlockMean.of(days(14, 0.0, seed=2)[3] + 1, np.arange(14))

    assert found is not None
    low, _ = found.interval(0.05)
    assert found.p_above(low) == pytest.approx(0.05)
    assert found.p_above(found.mean) == pytest.approx(0.5)


def test_difference_of_two_groups_has_the_error_of_both():
    random = np.random.default_rng(4)
    values, block_of = random.normal(size=4000), np.repeat(np.arange(20), 200)
    first = np.arange(4000) % 2 == 0
    found = BlockMean.of_difference(values, block_of, first, ~first)

    assert found is not None
    assert found.mean == pytest.approx(values[first].mean() - values[~first].mean())
    assert np.sqrt(2 / 2000) * 0.9 < found.error < 2 * np.sqrt(2 / 2000)


def test_equal_values_have_no_error():
    found = BlockMean.of(np.zeros(10), np.arange(10))

    assert found is not None
    assert found.interval(0.05) == (0, 0)
    assert found.p_above(0) == 1
