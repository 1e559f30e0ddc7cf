"""The estimator of blank_model."""

from typing import Any

from sklearn.ensemble import HistGradientBoostingClassifier


def estimator(categorical: list[str], _numeric: list[str]) -> Any:
    """Return an unfitted estimator for a frame of these columns: numbers, also missing ones."""
    if categorical:
        raise ValueError(f"encode these features, or leave them out: {', '.join(categorical)}")
    return HistGradientBoostingClassifier(random_state=1)
