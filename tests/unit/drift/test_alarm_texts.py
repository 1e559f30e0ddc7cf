"""What alarms say: each message word for word."""

from services.drift import alarm_texts
from services.monitoring.loss_comparison import LossComparison
from services.runtime.declaration import QualityBounds
from streams.records import Contribution, FeatureQuality

NEW_BIN = Contribution(
    feature="c", bin="(new)", expected_share=0.01, share=0.25, psi=0.8, importance=None, weight=0.8
)
ABOVE = LossComparison("log_loss", 0.637, 0.544, 0.05)


def test_a_feature_that_changed_in_level_is_described_by_its_mean_rank():
    assert alarm_texts.feature_text("seats", "", 0.62, [NEW_BIN]) == (
        "seats: recent values have mean rank 0.62 in the reference (0.50 = no change)"
    )


def test_within_a_segment_the_rank_is_among_earlier_values_of_the_segment():
    assert alarm_texts.feature_text("seats", "origin=EWR", 0.31, []) == (
        "seats where origin=EWR: recent values have mean rank 0.31 among earlier values of this segment "
        "(0.50 = no change)"
    )


def test_a_feature_that_changed_in_shape_is_described_by_the_bin_that_changed_most():
    assert alarm_texts.feature_text("c", "", 0.51, [NEW_BIN]) == (
        "c: the distribution changed in shape, not in level; largest change in this window: "
        "(new) with 25.0% of the values (1.0% expected)"
    )


def test_without_rank_and_bins_no_change_of_level_is_claimed():
    assert alarm_texts.feature_text("c", "", None, []).endswith(
        "mean rank 0.50 in the reference (0.50 = no change)"
    )


def test_new_categories_are_named_five_at_most():
    assert alarm_texts.category_text("colour", "", 0.104, ["mauve", "teal"]) == (
        "colour: 10.4% of the values in this window are categories that the reference does not contain: "
        "mauve, teal"
    )
    assert alarm_texts.category_text("colour", "", 0.1, list("abcdefg")).endswith(": a, b, c, d, e and more")


def test_a_relation_is_described_by_the_correlation_now_and_before():
    assert alarm_texts.relation_text("x and colour", 0.08, 0.9) == (
        "x and colour: their rank correlation is 0.08 in recent rows (0.90 before)"
    )


def test_values_that_break_a_declared_bound_are_counted_beside_what_is_allowed():
    quality = FeatureQuality(feature="x", values=3, nulls=1, above=1, null_share_max=0.1)
    assert alarm_texts.quality_text(quality, QualityBounds(max=3)) == (
        "x: this window has 3 values: 1 is null, 1 is above the maximum 3.0 "
        "(allowed: at most 10.0% null and 0.0% invalid)"
    )


def test_nulls_are_not_limited_in_the_text_where_any_share_of_them_is_allowed():
    quality = FeatureQuality(feature="x", values=300, wrong_type=2, below=2, not_allowed=2, broken=True)
    assert alarm_texts.quality_text(quality, QualityBounds(min=0)) == (
        "x: this window has 300 values: 2 are of a type other than declared, 2 are below the minimum 0.0, "
        "2 are not among the allowed values (allowed: at most 0.0% invalid)"
    )


LIMIT = "above the limit 0.594 (baseline 0.544 + tolerance 0.050)"
FEBRUARY_3_MS = 1_359_849_600_000


def test_harm_is_told_with_its_lower_end_and_its_limit():
    text = alarm_texts.harm_text(ABOVE, 0.61, FEBRUARY_3_MS, is_early=False)
    assert text == (
        "the mean log loss of mature cohorts since 3 Feb 2013 is 0.637 "
        f"(at least 0.610 with 95 % confidence), {LIMIT}"
    )
    assert "of labels known early since" in alarm_texts.harm_text(ABOVE, 0.61, FEBRUARY_3_MS, is_early=True)


def test_an_estimate_is_told_with_its_error_and_the_scores_outside():
    text = alarm_texts.estimated_text(ABOVE, FEBRUARY_3_MS, 0.012, 0.0)
    assert text == (
        f"the mean log loss estimated since 3 Feb 2013 is 0.637, {LIMIT}; "
        "recent estimates were off by at most 0.012"
    )
    assert alarm_texts.estimated_text(ABOVE, FEBRUARY_3_MS, 0.012, 0.3) == (
        f"{text}; 30.0% of the scores are in ranges without known results"
    )


def test_a_cost_is_given_in_its_declared_unit():
    cost = LossComparison("cost", 2.5, 1.35, 1.0, "USD")
    assert alarm_texts.harm_text(cost, 2.4, FEBRUARY_3_MS, is_early=False) == (
        "the mean cost of mature cohorts since 3 Feb 2013 is 2.500 USD (at least 2.400 USD with 95 % "
        "confidence), above the limit 2.350 USD (baseline 1.350 USD + tolerance 1.000 USD)"
    )


def test_a_detector_of_river_tells_of_a_rise_only():
    assert alarm_texts.loss_change_text("river-ddm") == "river-ddm: the losses of the champion rose"
