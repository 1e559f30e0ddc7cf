"""Shares of missing, new, rare and out-of-range values: found within a day, and seldom without a change."""

import numpy as np
import pytest
from scipy import signal

from services.drift.binning.bin_counts import FeatureBinner
from services.drift.detectors.share_detector import KindsOfRows, ShareDetector
from services.monitoring import design_effect, reference
from services.monitoring.value_kinds import kinds_of
from services.runtime.declaration import DAY_MS, MONTH_MS, Monitoring

ROWS_A_DAY = 900
REFERENCE_ROWS = 27_000
STEP_ROWS = 64


def alike(rows, effect, random):
    """Return an autoregression whose sums vary ``effect`` times as much as those of independent values."""
    factor = (effect - 1) / (effect + 1)
    own = random.normal(size=rows) * np.sqrt(1 - factor**2)
    own[0] /= np.sqrt(1 - factor**2)
    return signal.lfilter([1], [1, -factor], own)


def names_of(numbers):
    return np.array(["a", "b", "c", "d"], dtype=object)[np.digitize(numbers, [-1, 0, 1])]


def times_of(rows):
    return np.arange(rows, dtype=np.int64) * (DAY_MS // ROWS_A_DAY)


def watched(columns, reference_rows, threshold_ms, detector=None):
    """Return the changes in columns, whose first rows are the reference."""
    blocks = design_effect.Blocks(times_of(reference_rows), Monitoring().block_ms)
    known = [
        reference.of_column(str(number), column[:reference_rows], times_of(reference_rows), (), blocks)
        for number, column in enumerate(columns)
    ]
    bins = np.stack(
        [
            FeatureBinner(each).bins(column[reference_rows:].tolist())
            for each, column in zip(known, columns, strict=True)
        ],
        axis=1,
    )
    features = [kinds_of(each) for each in known]
    kinds = KindsOfRows(features, [1] * len(known)).find(bins, None)
    detector = detector or ShareDetector(features, threshold_ms)
    times_ms, found = times_of(len(kinds)), []
    for start in range(0, len(kinds), STEP_ROWS):
        step = slice(start, start + STEP_ROWS)
        found += detector.update(kinds[step], times_ms[step])
    return found


@pytest.mark.parametrize("effect", [1, 100, 4600])
def test_a_feature_that_turns_null_and_a_category_that_explodes_are_found_in_a_day(effect):
    """100 streams share one false alarm in ten months; a category has one value of 20,000, then half."""
    random = np.random.default_rng(int(effect))
    numbers = alike(REFERENCE_ROWS + ROWS_A_DAY, effect, random)
    names = names_of(numbers)
    names[[500, 20_500]] = "yes"
    new = names_of(numbers)
    later = np.arange(len(numbers)) >= REFERENCE_ROWS
    turned = later & (random.random(len(numbers)) < 0.5)
    numbers[later], names[turned], new[turned] = np.nan, "yes", "other"

    found = watched([numbers, names, new], REFERENCE_ROWS, 100 * 10 * MONTH_MS)

    kinds = {(each.change.stream, each.kind) for each in found}
    assert kinds == {(0, "missing"), (1, "rare"), (2, "new")}
    null = next(each for each in found if each.kind == "missing")
    assert null.change.detected_at_ms < DAY_MS / 3
    assert null.share == 1
    assert null.share_before == 0


def test_values_out_of_range_are_found_at_once_unless_values_resemble_each_other():
    """A day above a month's range says something only where the weather of a day is no matter of days."""
    random = np.random.default_rng(1)
    numbers = alike(REFERENCE_ROWS + ROWS_A_DAY, 1, random)
    numbers[REFERENCE_ROWS:] += 100
    change = watched([numbers], REFERENCE_ROWS, 1000 * MONTH_MS)[0]
    assert change.kind == "above"
    assert change.change.detected_at_ms < DAY_MS / 3
    weather = alike(REFERENCE_ROWS + ROWS_A_DAY, 4600, random)
    weather[REFERENCE_ROWS:] += 100
    assert watched([weather], REFERENCE_ROWS, 1000 * MONTH_MS) == []


@pytest.mark.parametrize("reference_rows", [50, 2000])
@pytest.mark.parametrize("missing_share", [0.0, 0.02, 0.3])
def test_unchanged_shares_raise_less_than_the_budget(reference_rows, missing_share):
    """20 features in 100 days with a threshold of 10 months: 6.7 are allowed on average."""
    random = np.random.default_rng(reference_rows)
    values = random.normal(size=(20, reference_rows + 100 * ROWS_A_DAY))
    values[random.random(values.shape) < missing_share] = np.nan
    assert len(watched(list(values), reference_rows, 10 * MONTH_MS)) <= 3


def test_bursts_that_the_reference_has_raise_less_than_the_budget():
    """One block of 64 rows in a hundred is null; 6.7 are allowed."""
    random = np.random.default_rng(3)
    rows = REFERENCE_ROWS + 100 * ROWS_A_DAY
    values = random.normal(size=(20, rows))
    values[(random.random((20, rows // 64 + 1)) < 0.01).repeat(64, axis=1)[:, :rows]] = np.nan
    assert len(watched(list(values), REFERENCE_ROWS, 10 * MONTH_MS)) <= 4


def test_a_state_continues_with_equal_results():
    random = np.random.default_rng(4)
    features = [kinds_of(reference.of_numbers("x", random.normal(size=500)))]
    kinds = np.where(np.arange(640) < 320, 0, random.random(640) < 0.02).astype(np.int8)[:, None]
    kinds[500:] = 1
    times_ms = times_of(640)
    whole, first, second = (ShareDetector(features, 1000 * MONTH_MS) for _ in range(3))
    changes = [whole.update(kinds[at : at + 64], times_ms[at : at + 64]) for at in range(0, 640, 64)]
    again = [first.update(kinds[at : at + 64], times_ms[at : at + 64]) for at in range(0, 320, 64)]
    second.restore(first.state())
    again += [second.update(kinds[at : at + 64], times_ms[at : at + 64]) for at in range(320, 640, 64)]
    assert any(changes)
    assert again == changes
    assert second.state() == whole.state()


def test_values_of_an_unknown_season_are_only_compared_if_they_are_missing():
    features = [kinds_of(reference.of_numbers("x", np.arange(10.0)))]
    bins = np.array([[0], [0], [len(features[0].of_bin) - 1]])
    kinds = KindsOfRows(features, [2]).find(bins, np.array([[1], [2], [2]]))
    assert kinds.ravel().tolist() == [2, 0, 1]
