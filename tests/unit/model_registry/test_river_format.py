"""Estimators as data: exact, canonical, and nothing but data."""

import random
import zlib
from typing import Any

import msgspec
import pytest
from river import compose, ensemble, linear_model, naive_bayes, optim, preprocessing, stats, tree

from services.model_registry import river_format as subject
from services.model_registry.river_types import EstimatorError

NUMBERS, TEXT = ("a", "b"), ("c",)


def columns():
    scaled = compose.Discard(*TEXT) | preprocessing.StandardScaler()
    coded = compose.Discard(*NUMBERS) | preprocessing.OneHotEncoder(drop_zeros=True)
    return compose.TransformerUnion(scaled, coded)


def linear(**options):
    return columns() | linear_model.LinearRegression(**options)


REGRESSORS = {
    "linear, SGD": linear,
    "linear, AdaGrad, absolute loss": lambda: linear(
        optimizer=optim.AdaGrad(0.3), loss=optim.losses.Absolute()
    ),
    "linear, Adam, L2": lambda: linear(optimizer=optim.Adam(0.01), l2=0.01),
    "linear, L1": lambda: linear(l1=0.001),
    "passive-aggressive": lambda: columns() | linear_model.PARegressor(),
    "Bayesian linear": lambda: columns() | linear_model.BayesianLinearRegression(),
    "Hoeffding tree": lambda: tree.HoeffdingTreeRegressor(grace_period=50, nominal_attributes=list(TEXT),
                                                          leaf_prediction="mean"),
    "Hoeffding tree of linear models": lambda: columns() | tree.HoeffdingTreeRegressor(grace_period=100),
    "bagging": lambda: ensemble.BaggingRegressor(linear(), n_models=3, seed=7),
    "imputed and robust": lambda: (
        compose.Discard(*TEXT) | preprocessing.StatImputer(("a", stats.Mean())) | preprocessing.MinMaxScaler()
        | linear_model.LinearRegression()
    ),
}  # fmt: skip
CLASSIFIERS = {
    "logistic": lambda: columns() | linear_model.LogisticRegression(),
    "naive Bayes": lambda: compose.Discard(*TEXT) | naive_bayes.GaussianNB(),
    "AdaBoost": lambda: ensemble.AdaBoostClassifier(columns() | linear_model.LogisticRegression(), seed=5),
}


def rows(count, seed=1):
    """Rows of two numbers and a category, each with the number to be learned."""
    chance = random.Random(seed)
    for _ in range(count):
        x: dict[str, Any] = {
            "a": chance.gauss(0, 1),
            "b": chance.gauss(3, 20),
            "c": chance.choice("klmnopqrs"),
        }
        y = 2 * x["a"] - 0.1 * x["b"] + 3 * (x["c"] == "k") + chance.gauss(0, 1)
        yield x, y


def learn(model, data, *, binary):
    for x, y in data:
        model.learn_one(x, y > 0 if binary else y)


def answers(model, data, *, binary):
    return [repr(model.predict_proba_one(x) if binary else model.predict_one(x)) for x, _ in data]


CASES = [(name, make, False) for name, make in REGRESSORS.items()]
CASES += [(name, make, True) for name, make in CLASSIFIERS.items()]


@pytest.mark.parametrize(("make", "binary"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_estimator_read_again_learns_and_answers_bit_for_bit(make, binary):
    """Also when it is written and read again and again while it learns, as by a process that is killed."""
    straight, interrupted = make(), make()
    for part in range(6):
        data = list(rows(150, seed=part))
        learn(straight, data, binary=binary)
        learn(interrupted, data, binary=binary)
        interrupted = subject.decode(subject.encode(interrupted))
        probe = list(rows(20, seed=100 + part))
        assert answers(interrupted, probe, binary=binary) == answers(straight, probe, binary=binary)


@pytest.mark.parametrize("make", REGRESSORS.values(), ids=REGRESSORS)
def test_equal_estimators_give_equal_bytes(make):
    """However often each was interrupted; estimators that draw at random need a seed for it."""
    straight, interrupted = make(), make()
    for part in range(3):
        learn(straight, rows(100, seed=part), binary=False)
        learn(interrupted, rows(100, seed=part), binary=False)
        interrupted = subject.decode(subject.encode(interrupted))
    assert subject.encode(interrupted) == subject.encode(straight)


def table(*objects, root=0, **changes):
    """Return the bytes of a table that `encode` would not write."""
    genuine = msgspec.msgpack.decode(zlib.decompress(subject.encode([])))
    return zlib.compress(msgspec.msgpack.encode({**genuine, "root": [root], "objects": objects, **changes}))


def test_estimator_of_another_river_is_refused_with_what_to_do():
    with pytest.raises(EstimatorError, match=r"written with river 0\.0\.1.*install that version, or delete"):
        subject.decode(table(["list", []], river="0.0.1"))


@pytest.mark.parametrize("cut", [0, 1, 20])
def test_damaged_bytes_are_refused(cut):
    with pytest.raises(EstimatorError):
        subject.decode(subject.encode(linear())[:cut])
