"""The estimator of arrival_delay: gradient-boosted trees over carriers, airports, weather and recent delays.

It uses scikit-learn's classes only, so that the saved model can be loaded without running code from its file.
"""

from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder

RANDOM_STATE = 2013


def estimator(categorical: list[str], numeric: list[str]) -> Any:
    """Return an unfitted pipeline from a frame of these columns to the probability of a late arrival.

    Missing numbers stay missing: the trees learn a direction for them. A category that did not occur in
    training counts as missing.
    """
    # Rare categories need no common code, because a leaf has at least 60 rows; counting them would be slow.
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    columns = ColumnTransformer([("categories", codes, categorical), ("numbers", "passthrough", numeric)])
    # Codes are split as numbers: splits of declared categories overfit a single month of 105 airports.
    trees = HistGradientBoostingClassifier(
        max_iter=150,
        learning_rate=0.06,
        min_samples_leaf=60,
        early_stopping=False,
        random_state=RANDOM_STATE,
    )
    return Pipeline([("columns", columns), ("trees", trees)])
