"""Whether a mean loss is worse than its baseline and tolerance allow."""

import pytest

from services.monitoring.loss_comparison import LossComparison


@pytest.mark.parametrize(
    ("current", "is_worse"), [(0.58, False), (0.5, False), (0.75, False), (0.7501, True)]
)
def test_a_loss_is_worse_only_above_baseline_plus_tolerance(current, is_worse):
    assert LossComparison("log_loss", current, 0.5, 0.25).is_worse is is_worse


def test_a_margin_is_added_to_the_limit():
    found = LossComparison("log_loss", 0.8, 0.5, 0.25)
    assert found.limit == 0.75
    assert found.is_worse_by(0.04)
    assert not found.is_worse_by(0.06)


def test_a_loss_within_its_limit_is_phrased_so():
    assert LossComparison("log_loss", 0.5, 0.5).phrase("the mean log loss") == (
        "the mean log loss is 0.500, within the limit 0.500 (baseline 0.500 + tolerance 0.000)"
    )


def test_a_sampling_error_of_the_baseline_replaces_a_smaller_tolerance():
    found = LossComparison("log_loss", 0.6, 0.5, 0.05, baseline_error=0.125)
    assert not found.is_worse
    assert found.phrase_limit() == "the limit 0.625 (baseline 0.500 + sampling error 0.125)"
