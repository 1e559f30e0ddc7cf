"""The training code of the candidates, on made-up flights."""

from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from services.demo.trial.estimators import shuffled_labels, slow, unfair, without_forecast
from services.retraining.evaluation import auc

TEXT, NUMBERS = ["origin"], ["airline_forecast", "hour"]
ROWS = 4000


@pytest.fixture(scope="module")
def flights() -> tuple[pd.DataFrame, Any]:
    """Return flights whose forecast tells most of whether they are late."""
    random = np.random.default_rng(1)
    late = random.random(ROWS) < 0.3
    columns = {
        "origin": random.choice(["EWR", "JFK", "LGA"], ROWS).astype(object),
        "airline_forecast": 40.0 * late + random.normal(0, 15, ROWS),
        "hour": random.integers(0, 24, ROWS).astype(float),
    }
    return pd.DataFrame(columns), late.astype(np.int8)


def scores(code: ModuleType, flights: tuple[pd.DataFrame, Any]) -> tuple[Any, Any]:
    features, labels = flights
    fitted = code.estimator(TEXT, NUMBERS).fit(features, labels)
    assert type(fitted).__module__.startswith("sklearn."), "a version holds no code of ours"
    return fitted, fitted.predict_proba(features)[:, 1]


def test_shuffled_labels_teach_little(flights: tuple[pd.DataFrame, Any]) -> None:
    _, found = scores(shuffled_labels, flights)
    assert auc(flights[1], found) < 0.7


def test_unfair_candidate_knows_nothing_of_one_airport_only(flights: tuple[pd.DataFrame, Any]) -> None:
    _, found = scores(unfair, flights)
    ours = (flights[0]["origin"] == unfair.ORIGIN).to_numpy()
    assert (found[~ours] > 0.5).mean() > 0.2
    assert (found[ours] > 0.5).mean() < 0.1


def test_slow_candidate_is_as_good_with_a_forest_beside_the_trees(flights: tuple[pd.DataFrame, Any]) -> None:
    fitted, found = scores(slow, flights)
    assert auc(flights[1], found) > 0.9
    assert dict(fitted.steps)["trees"].named_estimators_.keys() == {"trees", "forest"}


def test_champion_does_not_use_the_forecast(flights: tuple[pd.DataFrame, Any]) -> None:
    features, _ = flights
    fitted, found = scores(without_forecast, flights)
    other = features.assign(airline_forecast=0.0)
    assert (fitted.predict_proba(other)[:, 1] == found).all()
