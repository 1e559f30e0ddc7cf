import numpy as np
import pytest

from services.monitoring import reference
from services.retraining.reference_drift import label_shares, of_features, stability_index
from streams.records import Reference
from tests.unit.retraining.training_data import declaration, training_set

X = np.random.default_rng(1).normal(size=5000)
NUMBERS = reference.of_numbers("x", X)
TEXTS = reference.of_categories("colour", np.array(["red"] * 50 + ["green"] * 50 + [None] * 10, dtype=object))


def test_same_values_have_no_distance():
    assert stability_index(NUMBERS, X) == pytest.approx(0, abs=1e-9)
    assert stability_index(TEXTS, np.array(["green", "red"] * 5 + [None], dtype=object)) == pytest.approx(
        0, abs=1e-6
    )


def test_shift_missing_and_new_values_count():
    assert stability_index(NUMBERS, X + 1) > 0.5
    assert stability_index(NUMBERS, np.full(100, np.nan)) > 5
    assert stability_index(TEXTS, np.array(["blue"] * 10, dtype=object)) > 5


def test_only_features_of_both_are_compared():
    data = training_set(500)
    known = Reference(version=1, features=[NUMBERS], score=None, log_loss=None)

    assert of_features(data, known).keys() == {"x"}


def test_share_of_positives_stands_beside_that_of_the_reference():
    known = Reference(
        version=1,
        features=[],
        score=None,
        log_loss=None,
        score_sums={"labels": [30.0, 10.0], "positives": [5.0, 5.0]},
    )
    data = training_set(500)
    positive = float(data.rows["label"].mean())

    assert label_shares(data, declaration(), known) == pytest.approx(
        {"0": 1 - positive, "1": positive, "reference 1": 0.25}
    )
    assert "reference 1" not in label_shares(data, declaration(), None)
