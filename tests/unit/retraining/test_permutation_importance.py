"""A feature that the model uses has an importance, another one has none."""

import numpy as np
import pandas as pd

from services.monitoring.model_metrics import log_losses
from services.retraining import permutation_importance

X = np.random.default_rng(1).normal(size=2000)
ROWS = pd.DataFrame({"used": X, "unused": X[::-1]})
LABELS = (X > 0).astype(np.float64)


def predict(rows):
    return 1 / (1 + np.exp(-5 * rows["used"].to_numpy()))


def loss(outputs, labels):
    return float(log_losses(labels, outputs).mean())


def test_only_features_that_the_model_uses_are_important():
    found = permutation_importance.of_features(predict, ROWS, LABELS, loss)
    assert found["used"] > 0.5
    assert found["unused"] == 0


def test_importance_is_the_same_each_time_and_never_negative():
    random = np.random.default_rng(2).permutation(LABELS)
    first, second = (permutation_importance.of_features(predict, ROWS, random, loss) for _ in range(2))
    assert first == second
    assert min(first.values()) >= 0
