import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

from services.monitoring.model_metrics import log_losses
from services.retraining.calibration import (
    CalibrationChoice,
    calibrated,
    choose,
    methods,
    replace_estimator,
    uncalibrated,
)
from services.runtime.declaration import DAY_MS

ROWS = 3000
TIMES_MS = np.arange(ROWS, dtype=np.int64) * (DAY_MS // 150)


def rows(seed: int, classes: int = 2, count: int = ROWS) -> tuple[pd.DataFrame, np.ndarray]:
    """Return five copies of a feature, which naive Bayes takes for independent, and labels."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count).astype(float)
    x = labels + 1.5 * random.normal(size=count)
    return pd.DataFrame({f"x{number}": x for number in range(5)}), labels


def losses(estimator, features, labels):
    outputs = estimator.predict_proba(features)
    return log_losses(np.ones(len(labels)), outputs[np.arange(len(labels)), labels.astype(int)])


def chosen(estimator, classes: int = 2, days: int = 20):
    fitted, after = estimator.fit(*rows(1, classes)), rows(2, classes)
    found = {method: calibrated(fitted, method, *rows(3, classes)) for method in ("none", *methods(ROWS))}
    day_of = TIMES_MS // DAY_MS
    kept = day_of < days
    found = {method: losses(each, *after)[kept] for method, each in found.items()}
    return choose(found, TIMES_MS[kept], DAY_MS)


@pytest.mark.parametrize("classes", [2, 3])
def test_scores_that_are_too_certain_are_calibrated(classes: int):
    choice = chosen(GaussianNB(), classes)

    assert choice.method in ("sigmoid", "isotonic")
    assert choice.differences[choice.method] < -0.02


@pytest.mark.parametrize("classes", [2, 3])
def test_calibrated_scores_stay_as_they_are(classes: int):
    choice = chosen(LogisticRegression(), classes)

    assert choice.method == "none"
    assert choice.differences.keys() == {"sigmoid", "isotonic"}


def test_few_days_choose_nothing():
    assert chosen(GaussianNB(), days=4) == CalibrationChoice("none", {})


def test_few_rows_are_not_calibrated_by_isotonic_regression():
    assert methods(999) == ("sigmoid",)
    assert methods(1000) == ("sigmoid", "isotonic")


def test_calibration_keeps_the_fitted_estimator():
    features, labels = rows(3)
    fitted = GaussianNB().fit(*rows(1))
    wrapped = calibrated(fitted, "sigmoid", features, labels)

    assert calibrated(fitted, "none", features, labels) is fitted
    assert losses(wrapped, features, labels).mean() < losses(fitted, features, labels).mean()
    assert uncalibrated(wrapped) is uncalibrated(fitted) is fitted


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_a_calibration_is_used_with_another_estimator(method):
    features, labels = rows(3)
    first, second = GaussianNB().fit(*rows(1)), GaussianNB().fit(*rows(4, count=1500))
    own = calibrated(second, method, features, labels).predict_proba(features)
    replaced = replace_estimator(calibrated(second, method, features, labels), first)

    assert uncalibrated(replaced) is first
    assert not np.allclose(replaced.predict_proba(features), own)
    assert losses(replaced, features, labels).mean() < losses(first, features, labels).mean() - 0.1
