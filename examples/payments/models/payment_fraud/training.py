"""The estimator of payment_fraud: gradient-boosted trees over the payment and the user's recent payments.

It uses scikit-learn's classes only, so that the saved model can be loaded without running code from its file.
"""

from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder

RANDOM_STATE = 20


def estimator(categorical: list[str], numeric: list[str]) -> Any:
    """Return an unfitted pipeline from a frame of these columns to the probability of fraud.

    The rows keep their weights although fraud is rare: the probabilities are then those of real payments, and
    the threshold in model.yaml weighs the costs.
    """
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    columns = ColumnTransformer([("categories", codes, categorical), ("numbers", "passthrough", numeric)])
    trees = HistGradientBoostingClassifier(
        max_iter=100,
        learning_rate=0.08,
        max_leaf_nodes=15,
        min_samples_leaf=40,
        l2_regularization=5.0,
        early_stopping=False,
        random_state=RANDOM_STATE,
    )
    return Pipeline([("columns", columns), ("trees", trees)])
