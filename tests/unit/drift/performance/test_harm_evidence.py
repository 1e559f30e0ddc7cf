"""Evidence that the mean loss is above its limit: false alarms, delays, dates, and the lower end."""

import numpy as np
import pytest

from services.drift.performance import harm_evidence
from services.drift.performance.harm_evidence import CohortLosses, HarmEvidence

DAY_MS = 24 * 3_600_000
MONTH_MS = 30 * DAY_MS
LIMIT = 0.3
SD = 0.15
"""Standard deviation of a loss, as that of log losses as shares of their range."""


def cohort(day, losses, weights=None):
    weights = np.ones(len(losses)) if weights is None else weights
    squares = weights**2
    return CohortLosses(
        day * DAY_MS, (day + 1) * DAY_MS, len(losses), float(weights.sum()), float(weights @ losses),
        float(squares.sum()), float(squares @ losses), float(squares @ losses**2), float(weights.max()),
    )  # fmt: skip


def losses(random, mean, labels):
    """Losses between 0 and 1 with a long tail."""
    shape = mean * (mean * (1 - mean) / SD**2 - 1)
    return random.beta(shape, shape * (1 - mean) / mean, size=labels)


def days_to_alarm(seed, mean, labels, days, calm_days=0, design_effect=1.0, threshold_ms=10 * MONTH_MS):
    """Return the day on which the evidence is strong enough, or None."""
    random = np.random.default_rng(seed)
    evidence = HarmEvidence(threshold_ms, design_effect)
    for day in range(days):
        evidence.add(cohort(day, losses(random, mean if day >= calm_days else LIMIT, labels)))
        if evidence.strength(LIMIT) >= 1:
            return day - calm_days
    return None


def test_losses_of_a_cohort_that_were_corrected_replace_those_before():
    first, calm, corrected = (cohort(day, np.full(50, loss)) for day, loss in ((1, 0.9), (2, 0.1), (1, 0.1)))
    evidence, expected = (HarmEvidence(10 * MONTH_MS, 1.0) for _ in range(2))
    for each in (first, calm):
        evidence.add(each)
    evidence.revise(corrected)
    evidence.revise(cohort(7, np.full(50, 0.9)))
    for each in (corrected, calm):
        expected.add(each)
    assert evidence.cohorts == expected.cohorts
    assert evidence.strength(LIMIT) == expected.strength(LIMIT)


@pytest.mark.parametrize("labels", [3, 100, 3000])
def test_a_mean_at_the_limit_raises_no_more_false_alarms_than_allowed(labels):
    """One in 10 months is allowed: at most 12 of 60 runs of two months, 20 are improbable."""
    found = [days_to_alarm(seed, LIMIT, labels, 60) for seed in range(60)]
    assert sum(day is not None for day in found) <= 12


@pytest.mark.parametrize(
    ("labels", "excess", "days_max"), [(30, 0.05, 25), (100, 0.05, 10), (1000, 0.05, 3), (1000, 0.02, 9)]
)
def test_harm_is_found_soon_however_long_it_was_calm_before(labels, excess, days_max):
    for calm_days in (0, 200):
        found = [days_to_alarm(seed, LIMIT + excess, labels, 400, calm_days) for seed in range(5)]
        assert all(day is not None for day in found)
        assert np.median([day for day in found if day is not None]) <= days_max


RARE_LIMIT = 0.011
"""Of a model of a class with 2 % of the rows: the log loss is 0.044, and the range ends at 4."""


def rare_losses(random, mean, labels):
    """Losses of such a model: nearly all are small, and each missed positive is as large as possible."""
    missed = (mean - 0.003) / (1 - 0.003)
    return np.where(random.random(labels) < missed, 1.0, 0.003)


def rare_days_to_alarm(seed, mean, days, calm_mean):
    """Return the day from the change on day 20 on which the evidence is strong enough, or None."""
    random = np.random.default_rng(seed)
    evidence = HarmEvidence(10 * MONTH_MS, 3.0)
    for day in range(days):
        evidence.add(cohort(day, rare_losses(random, mean if day >= 20 else calm_mean, 2000)))
        if evidence.strength(RARE_LIMIT) >= 1:
            return day - 20
    return None


def test_harm_of_a_rare_class_is_found_within_days():
    """The log loss of a fraud model rises from 0.024 to 0.12, with 2,000 labels a day."""
    found = [rare_days_to_alarm(seed, 0.03, 40, calm_mean=0.006) for seed in range(20)]
    assert all(day is not None and 0 <= day <= 4 for day in found), found


def test_a_rare_class_at_its_limit_raises_no_more_false_alarms_than_allowed():
    found = [rare_days_to_alarm(seed, RARE_LIMIT, 60, calm_mean=RARE_LIMIT) for seed in range(60)]
    assert sum(day is not None for day in found) <= 12


def test_the_lower_end_of_the_harm_of_a_rare_class_holds_and_is_above_the_limit():
    random = np.random.default_rng(4)
    evidence = HarmEvidence(10 * MONTH_MS, 3.0)
    for day in range(10):
        evidence.add(cohort(day, rare_losses(random, 0.03, 2000)))
    assert RARE_LIMIT < evidence.harm(RARE_LIMIT).low < 0.03


def test_losses_of_one_day_that_are_alike_are_no_harm_with_their_design_effect():
    """Days differ by a standard deviation of 0.04, losses within a day by hardly more."""
    alarms = {1.0: 0, 60.0: 0}
    for design_effect in alarms:
        for seed in range(20):
            random = np.random.default_rng(seed)
            evidence = HarmEvidence(10 * MONTH_MS, design_effect)
            for day in range(100):
                level = float(np.clip(random.normal(LIMIT, 0.04), 0.1, 0.5))
                evidence.add(cohort(day, losses(random, level, 900)))
                alarms[design_effect] += evidence.strength(LIMIT) >= 1
    assert alarms[60.0] == 0
    assert alarms[1.0] > 100


def test_a_lower_loss_is_never_harm():
    evidence = HarmEvidence(3 * MONTH_MS, 1.0)
    for day in range(50):
        evidence.add(cohort(day, np.full(100, LIMIT - 0.1 if day > 20 else LIMIT - 0.01)))
    assert evidence.strength(LIMIT) < 1


def test_harm_is_dated_and_has_a_lower_end_above_the_limit():
    random = np.random.default_rng(3)
    evidence = HarmEvidence(10 * MONTH_MS, 1.0)
    for day in range(100):
        evidence.add(cohort(day, losses(random, LIMIT + 0.1 * (day >= 90), 300)))
    harm = evidence.harm(LIMIT)
    assert harm.since_from_ms <= harm.since_ms < harm.since_to_ms
    assert abs(harm.since_ms // DAY_MS - 90) <= 1
    assert harm.mean == pytest.approx(LIMIT + 0.1, abs=0.02)
    assert LIMIT < harm.low < harm.mean
    assert harm.labels == pytest.approx(3000, abs=300)


def test_the_lower_end_is_rarely_above_the_mean():
    wrong = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        evidence = HarmEvidence(MONTH_MS, 1.0)
        for day in range(30):
            evidence.add(cohort(day, losses(random, LIMIT + 0.1, 100)))
        wrong += evidence.harm(LIMIT).low > LIMIT + 0.1
    assert wrong <= 6


def test_evidence_of_harm_that_is_over_does_not_last():
    random = np.random.default_rng(5)
    evidence = HarmEvidence(10 * MONTH_MS, 1.0)
    for day in range(60):
        evidence.add(cohort(day, losses(random, LIMIT + 0.2, 1000)))
    assert evidence.strength(LIMIT) >= 1
    for day in range(60, 64):
        evidence.add(cohort(day, losses(random, LIMIT - 0.05, 1000)))
    assert evidence.strength(LIMIT) < 0.05


def test_old_cohorts_are_merged_and_forgotten():
    random = np.random.default_rng(6)
    evidence = HarmEvidence(MONTH_MS, 1.0)
    hour_ms = DAY_MS // 24
    for hour in range(24 * 500):
        start_ms = hour * hour_ms
        each = cohort(0, losses(random, LIMIT - 0.02, 2))
        evidence.add(CohortLosses(start_ms, start_ms + hour_ms, 2, *list(_sums(each))))
    assert len(evidence.cohorts) <= harm_evidence.COHORTS_MAX
    assert evidence.cohorts[-1].end_ms - evidence.cohorts[0].end_ms <= harm_evidence.REACH_MS
    assert evidence.strength(LIMIT) < 1


def _sums(each):
    return each.weights, each.losses, each.weight_squares, each.products, each.loss_squares


def test_a_silent_year_is_no_evidence():
    evidence = HarmEvidence(5 * MONTH_MS, 1.0)
    evidence.add(cohort(0, np.full(10, LIMIT)))
    evidence.add(cohort(365, np.full(10, LIMIT)))
    assert evidence.strength(LIMIT) < 0.1


def test_weighted_losses_are_evidence_for_their_weighted_mean():
    """Losses above the limit are known twice as often as others: weights make up for it."""
    random = np.random.default_rng(7)
    plain, weighted = HarmEvidence(MONTH_MS, 1.0), HarmEvidence(MONTH_MS, 1.0)
    for day in range(60):
        all_losses = losses(random, LIMIT, 400)
        is_high = all_losses > LIMIT
        known = random.random(400) < np.where(is_high, 1.0, 0.5)
        plain.add(cohort(day, all_losses[known]))
        weighted.add(cohort(day, all_losses[known], np.where(is_high, 1.0, 2.0)[known]))
    assert plain.strength(LIMIT) >= 1
    assert weighted.strength(LIMIT) < 1
