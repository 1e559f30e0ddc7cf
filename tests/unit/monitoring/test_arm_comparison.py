"""Differences between arms: their standard errors hold where losses are alike within blocks of time."""

import numpy as np
import pytest

from services.monitoring import arm_comparison
from services.monitoring.arm_comparison import BLOCKS
from streams.records import ArmFigures, DriftReport, LossSums, MeasureFigures, RequestSums

ROWS = 640
BIAS = 0.05
"""By how much the arm's losses are above the champion's."""


def difference_of(windows, champion):
    found = arm_comparison.difference(windows, champion)
    assert found is not None
    return found


def sums(losses, blocks):
    counts = np.bincount(blocks, minlength=BLOCKS)
    totals = np.bincount(blocks, weights=losses, minlength=BLOCKS)
    return LossSums(
        labels=len(losses), total=float(losses.sum()), squares=float((losses**2).sum()),
        block_labels=counts.tolist(), block_totals=totals.tolist(),
    )  # fmt: skip


def window(random, *, is_paired, storms=0.3):
    """Return the sums of one window in which a storm of each block raises the losses of both arms."""
    blocks = np.arange(ROWS) * BLOCKS // ROWS
    storm = random.normal(0, storms, BLOCKS)[blocks]
    champion = 1 + storm + random.normal(0, 0.2, ROWS)
    arm = 1 + BIAS + storm + random.normal(0, 0.2, ROWS)
    if is_paired:
        return sums(arm - champion, blocks), None
    is_arm = random.random(ROWS) < 0.3
    return sums(arm[is_arm], blocks[is_arm]), sums(champion[~is_arm], blocks[~is_arm])


@pytest.mark.parametrize("is_paired", [True, False])
@pytest.mark.parametrize("windows", [1, 4])
def test_the_interval_holds_the_difference_in_19_of_20_cases(is_paired, windows):
    """Losses of a block have a design effect of about 30; it cancels in differences within a block."""
    random, held, errors = np.random.default_rng(5), 0, []
    for _ in range(400):
        found = difference_of([window(random, is_paired=is_paired) for _ in range(windows)], champion=1)
        held += found.low <= BIAS <= found.high
        errors.append(found.standard_error)
    assert 0.93 <= held / 400 <= 0.99
    alone = 0.2 * np.sqrt(2 / ROWS if is_paired else 1 / (0.3 * ROWS) + 1 / (0.7 * ROWS))
    assert np.mean(errors) < 3.2 * alone / np.sqrt(windows)


def test_losses_of_a_difference_that_changes_with_the_block_have_a_larger_standard_error():
    blocks = np.arange(ROWS) * BLOCKS // ROWS
    values = np.where(blocks % 2, 0.1, -0.1)
    found = difference_of([(sums(values, blocks), None)], champion=1)
    assert found.standard_error == pytest.approx(0.1 / np.sqrt(BLOCKS - 1))
    assert found.mean == pytest.approx(0)


def test_one_block_gives_a_mean_without_an_interval_and_no_labels_give_nothing():
    one = sums(np.ones(5), np.zeros(5, dtype=int))
    found = difference_of([(one, None)], champion=3)
    assert (found.mean, found.champion, found.labels) == (1, 3, 5)
    assert (found.standard_error, found.low, found.high) == (None, None, None)
    none = sums(np.zeros(0), np.zeros(0, dtype=int))
    assert arm_comparison.difference([(none, None)], champion=3) is None
    assert arm_comparison.difference([(one, none)], champion=3) is None


def report(random, number, version=1):
    own, champion = window(random, is_paired=False)

    def arm(name, given, losses, **options):
        loss = MeasureFigures(measure="log_loss", labels=losses.labels, total=losses.total, squares=0.0)
        return ArmFigures(
            arm=name, version=given, predictions=losses.labels, labels=losses.labels, measures=[loss],
            losses=losses, **options,
        )  # fmt: skip

    return DriftReport(
        report_id=f"r{number}", model="m", version=version, window_start_ms=number, window_end_ms=number + 1,
        predictions=ROWS, labels=champion.labels,
        arms=[
            arm("champion", version, champion, is_champion=True),
            arm("new", 5, own, failed=3, difference=difference_of([(own, champion)], version)),
        ],
    )  # fmt: skip


def test_windows_of_one_champion_add_up():
    random = np.random.default_rng(2)
    reports = [report(random, number) for number in range(3)]
    champion, new = arm_comparison.compare(reports)
    pairs = [(each.arms[1].losses, each.arms[0].losses) for each in reports]
    assert new.difference == difference_of(pairs, 1)
    assert champion.difference is None
    assert (new.failed, new.labels) == (9, sum(each.labels for each, _ in pairs))
    assert new.failed_share == 9 / (9 + new.predictions)
    assert new.loss == pytest.approx(sum(each.total for each, _ in pairs) / new.labels)
    later = report(random, 3, version=2)
    assert arm_comparison.compare([*reports, later])[-1].difference == later.arms[1].difference


def requests(random, rate, share=1.0, burst=0.0, slow=0.0):
    """Return requests of which a share fails; with bursts, in one block of four, for all arms at once."""
    answered, failed, cells, squares = [], [], [], 0
    for block in range(BLOCKS):
        count = random.binomial(ROWS // BLOCKS * 10, share)
        lost = random.binomial(count, min(rate + burst * (block % 4 == 0), 1.0))
        drawn = np.rint(40 + slow + 3 * (block % 4) + random.normal(0, 2, count - lost)).astype(int)
        answered.append(count - lost)
        failed.append(lost)
        cells.append(int(drawn.sum()))
        squares += int((drawn**2).sum())
    return RequestSums(
        answered=answered, failed=failed, timed=answered, call_cells=cells, call_cell_squares=squares
    )


def interval(
    found: arm_comparison.FailureDifference | arm_comparison.CallTimeRatio | None,
) -> tuple[float, float]:
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


@pytest.mark.parametrize("burst", [0.0, 0.2])
@pytest.mark.parametrize("rate", [0.0, 0.01])
def test_the_interval_of_the_share_of_errors_holds_in_19_of_20_cases(burst, rate):
    random, held = np.random.default_rng(3), 0
    for _ in range(300):
        own, other = requests(random, rate + 0.01, 0.2, burst), requests(random, rate, 0.8, burst)
        found = arm_comparison.failure_difference([(own, other)])
        low, high = interval(found)
        held += low <= 0.01 <= high
    assert held / 300 >= 0.93


def test_no_error_in_a_few_requests_proves_little_and_a_shadow_is_compared_with_its_own_requests():
    random = np.random.default_rng(1)
    few = arm_comparison.failure_difference([(requests(random, 0.0, 0.01), requests(random, 0.0))])
    assert few is not None
    assert few.mean == 0
    assert interval(few)[1] > 0.01
    shadow = arm_comparison.failure_difference([(requests(random, 0.1), None)])
    assert shadow is not None
    assert shadow.requests == shadow.champion_requests
    assert interval(shadow)[0] > 0.08


def test_the_ratio_of_the_times_of_calls_is_found_although_they_vary_by_block():
    random = np.random.default_rng(2)
    own, other = requests(random, 0.0, 0.2, slow=2.0), requests(random, 0.0, 0.8)  # half an octave
    found = arm_comparison.call_time_ratio([(own, other)])
    low, high = interval(found)
    assert low < 2**0.5 < high
    assert high / low < 1.1
    assert arm_comparison.call_time_ratio([(own, requests(random, 0.0, 0.0))]) is None


def test_requests_of_several_windows_and_of_all_arms_of_the_champion_add_up():
    random = np.random.default_rng(4)
    sums = [requests(random, 0.05, 0.3) for _ in range(6)]
    reports = [
        DriftReport(
            report_id="r", model="m", version=1, window_start_ms=0, window_end_ms=1, predictions=0, labels=0,
            arms=[
                ArmFigures(arm="champion", version=1, is_champion=True, requests=first),
                ArmFigures(arm="other", version=1, is_champion=True, requests=second),
                ArmFigures(arm="new", version=2, requests=own),
            ],
        )
        for own, first, second in (sums[:3], sums[3:])
    ]  # fmt: skip
    champion, new, _ = arm_comparison.compare(reports)
    pairs = [
        (own, added)
        for own, first, second in (sums[:3], sums[3:])
        if (added := arm_comparison.added_requests((first, second))) is not None
    ]
    assert new.failures is not None
    assert new.failures == arm_comparison.failure_difference(pairs)
    assert new.call_ratio == arm_comparison.call_time_ratio(pairs)
    assert new.failures.requests == sum(sum(own.answered) + sum(own.failed) for own, _ in pairs)
    assert (champion.failures, champion.call_ratio) == (None, None)
