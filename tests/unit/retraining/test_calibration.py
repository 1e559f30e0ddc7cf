import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

from services.monitoring.model_metrics import log_losses
from services.retraining.calibration import calibrated, choose
from services.runtime.declaration import DAY_MS

ROWS = 6000
TIMES_MS = np.arange(ROWS, dtype=np.int64) * (DAY_MS // 300)


def rows(seed: int, classes: int = 2) -> tuple[pd.DataFrame, np.ndarray]:
    """Return five copies of a feature, which naive Bayes takes for independent, and labels."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, ROWS).astype(float)
    x = labels + 1.5 * random.normal(size=ROWS)
    return pd.DataFrame({f"x{number}": x for number in range(5)}), labels


def predict(estimator, features):
    outputs = estimator.predict_proba(features)
    return outputs[:, 1] if outputs.shape[1] == 2 else outputs


def losses(outputs, labels):
    if outputs.ndim == 1:
        return log_losses(labels, outputs)
    return log_losses(np.ones(len(labels)), outputs[np.arange(len(labels)), labels.astype(int)])


def chosen(estimator, classes: int = 2, count: int = ROWS):
    features, labels = rows(2, classes)
    fitted = estimator.fit(*rows(1, classes))
    return choose(fitted, features[:count], labels[:count], TIMES_MS[:count], predict, losses, DAY_MS)


@pytest.mark.parametrize("classes", [2, 3])
def test_scores_that_are_too_certain_are_calibrated(classes: int):
    choice = chosen(GaussianNB(), classes)

    assert choice.method in ("sigmoid", "isotonic")
    assert choice.differences[choice.method] < -0.02


def test_calibrated_scores_stay_as_they_are():
    assert chosen(LogisticRegression()).method == "none"


def test_few_days_or_labels_choose_nothing():
    assert chosen(GaussianNB(), count=400).method == "none"
    assert chosen(GaussianNB(), count=1).method == "none"


def test_calibration_keeps_the_fitted_estimator():
    features, labels = rows(3)
    fitted = GaussianNB().fit(*rows(1))
    wrapped = calibrated(fitted, "sigmoid", features, labels)

    assert calibrated(fitted, "none", features, labels) is fitted
    assert (
        losses(predict(wrapped, features), labels).mean() < losses(predict(fitted, features), labels).mean()
    )
