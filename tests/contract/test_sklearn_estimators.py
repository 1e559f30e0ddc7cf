"""Every classifier and regressor that scikit-learn has can be a version, without further trusted types."""

import warnings
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.utils import all_estimators

from services.model_registry.sklearn_flavour.model import TRUSTED_TYPES

NEGATIVE_IS_REFUSED = {
    "CategoricalNB",
    "ComplementNB",
    "GammaRegressor",
    "MultinomialNB",
    "PoissonRegressor",
}
SHAPED_OTHERWISE = {
    "CCA",
    "IsotonicRegression",
    "PLSCanonical",
    "MultiTaskElasticNet",
    "MultiTaskElasticNetCV",
    "MultiTaskLasso",
    "MultiTaskLassoCV",
}
"""They take one column, or answer several at once, which no task here does."""


def estimators() -> list[Any]:
    """Return those that need no other estimator inside, and for those that do, some around a tree."""
    from sklearn import ensemble, multiclass
    from sklearn.linear_model import LogisticRegression
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    found = [ensemble.VotingRegressor([("tree", DecisionTreeRegressor())])]
    found += [multiclass.OneVsRestClassifier(DecisionTreeClassifier())]
    found += [ensemble.StackingClassifier([("tree", DecisionTreeClassifier())], LogisticRegression())]
    for kind in ("classifier", "regressor"):
        for name, made in all_estimators(type_filter=kind):
            if name not in SHAPED_OTHERWISE and not _needs_another(made):
                found.append(made())
    return found


def _needs_another(made: Any) -> bool:
    try:
        made()
    except TypeError:
        return True
    name: str = made.__name__
    return name == "SelfTrainingClassifier"


@pytest.mark.parametrize("estimator", estimators(), ids=lambda each: type(each).__name__)
def test_estimator_is_kept_and_read_within_the_trusted_types(estimator: Any) -> None:
    """It answers as before, bit for bit or nearly so."""
    inputs = np.random.default_rng(1).normal(size=(60, 3))
    if type(estimator).__name__ in NEGATIVE_IS_REFUSED:
        inputs = np.abs(inputs)
    sums = inputs.sum(axis=1)
    labels = sums > sums.mean() if estimator.__sklearn_tags__().classifier_tags else np.abs(sums) + 0.1
    with warnings.catch_warnings(action="ignore"):
        fitted = estimator.fit(inputs, labels)
        read = skops.io.loads(skops.io.dumps(fitted), trusted=list(TRUSTED_TYPES))
        assert np.allclose(read.predict(inputs), fitted.predict(inputs), rtol=1e-9)
