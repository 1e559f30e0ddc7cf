"""The estimator of delivery_minutes: gradient-boosted trees, with scikit-learn's classes only."""

from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder


def estimator(categorical: list[str], numeric: list[str]) -> Any:
    """Return an unfitted pipeline from a frame of these columns to minutes; missing numbers stay missing."""
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    columns = ColumnTransformer([("categories", codes, categorical), ("numbers", "passthrough", numeric)])
    trees = HistGradientBoostingRegressor(
        loss="absolute_error", max_iter=100, early_stopping=False, random_state=1
    )
    return Pipeline([("columns", columns), ("trees", trees)])
