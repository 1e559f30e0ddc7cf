"""Models that learn online, as scoring calls them."""

import datetime as dt

import numpy as np
import pytest
from river import compose, dummy, linear_model, preprocessing, stats

from services.scoring.river_model import RiverModel


def columns(*numbers):
    return {"x": np.array(numbers, dtype=np.float64), "who": np.array(["a"] * len(numbers), dtype=object)}


def test_a_classifier_returns_the_probability_of_true():
    classifier = compose.Discard("who") | preprocessing.StandardScaler() | linear_model.LogisticRegression()
    for number in range(200):
        classifier.learn_one({"x": float(number % 2), "who": "a"}, bool(number % 2))
    low, high = RiverModel(classifier).predict(columns(0.0, 1.0))
    assert 0 < low < 0.4
    assert 0.6 < high < 1
    assert RiverModel(classifier).predict(columns(1.0))[0] == high, "rows do not affect each other"


def test_an_untrained_classifier_returns_0():
    assert RiverModel(dummy.NoChangeClassifier()).predict(columns(1.0)).tolist() == [0.0]


def test_a_regressor_returns_its_value_and_never_gets_a_missing_feature():
    seen = []

    class Recording(dummy.StatisticRegressor):
        def predict_one(self, x):
            seen.append(dict(x))
            return super().predict_one(x)

    mean = Recording(stats.Mean())
    mean.learn_one({}, 7.0)
    assert RiverModel(mean).predict(columns(1.0, np.nan)).tolist() == [7.0, 7.0]
    assert seen == [{"x": 1.0, "who": "a"}, {"who": "a"}]


def test_a_time_is_the_text_that_was_learned_from_the_record():
    seen = []

    class Recording(dummy.StatisticRegressor):
        def predict_one(self, x):
            seen.append(dict(x))
            return 0.0

    times = np.array([dt.datetime(2013, 7, 1, 16, 5, tzinfo=dt.UTC), None], dtype=object)
    RiverModel(Recording(stats.Mean())).predict({"at": times})
    assert seen == [{"at": "2013-07-01T16:05:00Z"}, {}]


def test_an_error_of_the_estimator_is_raised():
    with pytest.raises(KeyError):
        RiverModel(compose.Select("absent") | linear_model.LinearRegression()).predict(columns(1.0))
