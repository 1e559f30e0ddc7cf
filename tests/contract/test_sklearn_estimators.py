"""scikit-learn's own classes can be a version, or a step of one, without further trusted types."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import skops.io
from scipy.sparse import issparse
from sklearn import compose, feature_selection, linear_model, model_selection, pipeline, preprocessing, tree
from sklearn.utils.discovery import all_estimators

from services.model_registry.sklearn_flavour.model import TRUSTED_TYPES

KINDS = ("transformer", "cluster", "classifier", "regressor")
UNSUPPORTED = {
    "Birch": "skops cannot write it: its nodes refer to each other",
    "DictVectorizer": "takes dictionaries, not columns",
    "FeatureHasher": "takes dictionaries, not columns",
    "LabelBinarizer": "transforms labels, not features",
    "LabelEncoder": "transforms labels, not features",
    "MultiLabelBinarizer": "transforms labels, not features",
    "PatchExtractor": "takes images",
}
SEVERAL_TARGETS = {
    "CCA",
    "ClassifierChain",
    "MultiOutputClassifier",
    "MultiOutputRegressor",
    "MultiTaskElasticNet",
    "MultiTaskElasticNetCV",
    "MultiTaskLasso",
    "MultiTaskLassoCV",
    "PLSCanonical",
    "PLSSVD",
    "RegressorChain",
}
"""They predict several targets at once, which no task here does; they are written and read all the same."""
ONE_COLUMN = {"CountVectorizer", "HashingVectorizer", "IsotonicRegression", "TfidfVectorizer"}
MANY_COLUMNS = {"GaussianRandomProjection", "SparseRandomProjection"}
"""By default they make thousands of columns, and refuse fewer inputs."""
CLASSES = {
    "NeighborhoodComponentsAnalysis",
    "RFE",
    "RFECV",
    "SelectFromModel",
    "SequentialFeatureSelector",
}
"""Transformers that get classes here; classifiers always do."""
NOT_NEGATIVE = {
    "AdditiveChi2Sampler",
    "CategoricalNB",
    "ComplementNB",
    "GammaRegressor",
    "LatentDirichletAllocation",
    "MultinomialNB",
    "NMF",
    "MiniBatchNMF",
    "PoissonRegressor",
    "SkewedChi2Sampler",
}

CHANCE = np.random.default_rng(1)
INPUTS = CHANCE.normal(size=(60, 3))
TEXTS = CHANCE.choice(["late", "on time", "early arrival"], size=60)


def _members() -> list[tuple[str, Any]]:
    return [("line", linear_model.LinearRegression()), ("tree", tree.DecisionTreeRegressor())]


def _voters() -> list[tuple[str, Any]]:
    return [("line", linear_model.LogisticRegression()), ("tree", tree.DecisionTreeClassifier())]


ARGUMENTS: Mapping[str, Callable[[], Mapping[str, Any]]] = {
    "ColumnTransformer": lambda: {"transformers": [("scaled", preprocessing.StandardScaler(), [0, 1])]},
    "FeatureUnion": lambda: {"transformer_list": [("scaled", preprocessing.StandardScaler())]},
    "Pipeline": lambda: {"steps": [("scaled", preprocessing.StandardScaler()), *_members()[:1]]},
    "TSNE": lambda: {"max_iter": 250},
    "SparseCoder": lambda: {"dictionary": np.eye(3)},
    "StackingClassifier": lambda: {"estimators": _voters()},
    "StackingRegressor": lambda: {"estimators": _members()},
    "VotingClassifier": lambda: {"estimators": _voters()},
    "VotingRegressor": lambda: {"estimators": _members()},
    "GridSearchCV": lambda: {"estimator": linear_model.Ridge(), "param_grid": {"alpha": [1.0, 2.0]}},
    "RandomizedSearchCV": lambda: {
        "estimator": linear_model.Ridge(),
        "param_distributions": {"alpha": [1.0, 2.0]},
        "n_iter": 1,
    },
}
"""Arguments of the classes that need more than another estimator, or would take long."""
FURTHER = [
    pipeline.Pipeline,
    model_selection.GridSearchCV,
    model_selection.RandomizedSearchCV,
]
"""Classes that scikit-learn lists as no kind, though they are what many models are."""


def found() -> dict[str, Any]:
    """Return every class of these kinds by its name."""
    named = {name: made for kind in KINDS for name, made in all_estimators(type_filter=kind)}
    return named | {made.__name__: made for made in FURTHER}


def made_with_defaults(name: str, made: Any) -> Any:
    """Return an estimator with its default settings, around another estimator where it needs one."""
    try:
        estimator = made(**ARGUMENTS[name]()) if name in ARGUMENTS else made()
    except TypeError:
        estimator = None
    if estimator is None or name == "SelfTrainingClassifier":
        inner = linear_model.Ridge() if "Regressor" in name else linear_model.LogisticRegression()
        estimator = made(estimator=inner)
    same = {"random_state": 1, "n_estimators": 5}  # repeatable, and faster; of the same types
    return estimator.set_params(**{key: same[key] for key in same.keys() & estimator.get_params().keys()})


def inputs_of(name: str) -> Any:
    if name in ONE_COLUMN:
        return INPUTS[:, 0] if name == "IsotonicRegression" else TEXTS
    if name in MANY_COLUMNS:
        return np.resize(INPUTS, (20, 3_000))
    if name == "KernelCenterer":
        return INPUTS @ INPUTS.T
    return np.abs(INPUTS) if name in NOT_NEGATIVE else INPUTS


def targets_of(name: str, estimator: Any, count: int) -> Any:
    values = np.abs(INPUTS.sum(axis=1))[:count] + 0.1
    if estimator.__sklearn_tags__().classifier_tags or name in CLASSES:
        values = (values > np.median(values)).astype(int)
    return np.column_stack([values, values[::-1]]) if name in SEVERAL_TARGETS else values


def outputs_of(estimator: Any, inputs: Any) -> list[Any]:
    """Return what an estimator computes for rows, of everything that it can compute."""
    outputs = [
        getattr(estimator, method)(inputs)
        for method in ("transform", "predict", "predict_proba")
        if hasattr(estimator, method)
    ]
    return [each.tocsr().data if issparse(each) else np.asarray(each) for each in outputs]


def assert_read_back(name: str, estimator: Any) -> None:
    inputs = inputs_of(name)
    with warnings.catch_warnings(action="ignore"):
        fitted = estimator.fit(inputs, targets_of(name, estimator, len(inputs)))
        read = skops.io.loads(skops.io.dumps(fitted), trusted=list(TRUSTED_TYPES))
        for found_outputs, expected in zip(outputs_of(read, inputs), outputs_of(fitted, inputs), strict=True):
            assert np.allclose(found_outputs, expected, rtol=1e-9, equal_nan=True)


@pytest.mark.parametrize("name", sorted(found().keys() - UNSUPPORTED.keys()))
def test_class_with_default_settings_is_written_and_read_within_the_trusted_types(name: str) -> None:
    """It computes the same as before, and no operator had to add a type."""
    assert_read_back(name, made_with_defaults(name, found()[name]))


@pytest.mark.parametrize(
    "score",
    [
        feature_selection.chi2,
        feature_selection.f_classif,
        feature_selection.f_regression,
        feature_selection.mutual_info_classif,
        feature_selection.mutual_info_regression,
        feature_selection.r_regression,
    ],
    ids=lambda each: each.__name__,
)
def test_every_score_function_of_the_selectors_is_trusted(score: Any) -> None:
    """They select columns when the estimator is fitted, and run no more afterwards."""
    selector = feature_selection.SelectKBest(score, k=2).fit(np.abs(INPUTS), INPUTS.sum(axis=1) > 0)
    read = skops.io.loads(skops.io.dumps(selector), trusted=list(TRUSTED_TYPES))
    assert np.array_equal(read.transform(INPUTS), selector.transform(INPUTS))


def test_list_of_unsupported_classes_holds_no_other() -> None:
    """Each of them exists, and cannot be a step of a model of columns."""
    for name in UNSUPPORTED:
        with pytest.raises(Exception, match=r".+"):
            assert_read_back(name, found()[name]())


def test_function_of_a_user_is_not_trusted() -> None:
    """Also one that numpy has, which could write or read a file."""
    for function in (np.save, np.load, _members):
        step = preprocessing.FunctionTransformer(function)
        columns = compose.ColumnTransformer([("step", step, [0])])
        untrusted = skops.io.get_untrusted_types(data=skops.io.dumps(columns))
        assert set(untrusted) - set(TRUSTED_TYPES)
