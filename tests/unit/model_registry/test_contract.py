"""A version does what its declaration says, takes what is served, and answers as when it was registered."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest

from services.model_registry import flavours, golden_batch, loading, model_inputs, registration, signing
from services.model_registry.contract import ContractError
from services.model_registry.golden_batch import GoldenError
from services.model_registry.model_inputs import InputKind, InputsError
from services.model_registry.pyfunc_model import PyfuncModel
from services.model_registry.sklearn_flavour.model import SklearnModel
from tests.unit.model_registry.world import GIVEN, classifier, contract, declaration, rows, settings

LABELS = np.array(["high", "low", "middle"])


def columns(count: int = 3) -> dict[str, Any]:
    return {name: rows()[name].to_numpy()[:count] for name in ("noise", "x")}


def line(labels: Any) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression().fit(rows()[["x"]], labels)


# --- the task


def test_probabilities_come_in_the_declared_order_of_the_classes(tmp_path: Path):
    """The estimator sorts its classes by name; the declaration has low, middle, high."""
    labels = LABELS[pd.cut(rows()["x"], [-9, -0.5, 0.5, 9], labels=False).map({0: 1, 1: 2, 2: 0})]
    estimator = line(labels)
    model = SklearnModel(estimator, contract(tmp_path, "multiclass", ("x",)))
    found = model.predict(columns())
    assert np.array_equal(found, estimator.predict_proba(rows()[["x"]].head(3))[:, [1, 2, 0]])


@pytest.mark.parametrize(
    ("task", "labels", "message"),
    [
        (
            "multiclass",
            LABELS[[0, 1] * 100],
            "its classes are high, low, but model.yaml declares low, middle, high",
        ),
        (
            "binary",
            LABELS[[0, 1] * 100],
            "its classes are high, low, but a binary model needs the labels 0 and 1",
        ),
        ("binary", [0, 1, 2, 3] * 50, "its classes are 0, 1, 2, 3"),
        ("regression", [0, 1] * 100, "the task is regression, but its estimator LogisticRegression"),
    ],
)
def test_classes_that_are_not_the_declared_ones_are_refused(tmp_path: Path, task, labels, message):
    """A score of the wrong class looks like any other score."""
    with pytest.raises(ContractError, match=message):
        SklearnModel(line(labels), contract(tmp_path, task, ("x",)))


def test_regressor_is_no_classifier(tmp_path: Path):
    """The error names task and estimator."""
    from sklearn.linear_model import LinearRegression

    estimator = LinearRegression().fit(rows()[["x"]], rows()["x"] * 2)
    model = SklearnModel(estimator, contract(tmp_path, "regression", ("x",)))
    assert np.allclose(model.predict(columns()), columns()["x"] * 2)
    with pytest.raises(ContractError, match="the task is binary, but its estimator LinearRegression"):
        SklearnModel(estimator, contract(tmp_path, "binary", ("x",)))


def test_pyfunc_answers_in_every_form_that_mlflow_allows(tmp_path: Path):
    """Columns named after the classes are put into the declared order."""
    several = pd.DataFrame({"high": [0.1], "low": [0.7], "middle": [0.2]})
    forms: list[tuple[str, Any, Any]] = [
        ("multiclass", several, [[0.7, 0.2, 0.1]]),
        ("multiclass", several.to_numpy(), [[0.1, 0.7, 0.2]]),
        ("binary", [0.3], [0.3]),
        ("binary", np.array([[0.7, 0.3]]), [0.3]),
        ("regression", pd.DataFrame({"y": [4]}), [4.0]),
        ("regression", pd.Series([4]), [4.0]),
    ]
    for task, answer, wanted in forms:
        model = PyfuncModel(lambda _, answer=answer: answer, contract(tmp_path, task), 0)
        assert model.predict(columns(1)).tolist() == wanted


# --- the inputs


def test_inputs_go_to_the_model_in_the_order_of_its_signature(tmp_path: Path):
    """Whatever the order in which they are served."""
    estimator = classifier()
    given = SklearnModel(estimator, contract(tmp_path)).predict(columns())
    assert np.array_equal(given, estimator.predict_proba(rows().head(3))[:, 1])


def test_estimator_fitted_on_other_columns_than_its_signature_is_refused(tmp_path: Path):
    """Two columns of numbers, exchanged, would give numbers."""
    with pytest.raises(ContractError, match="fitted on the columns x, noise, but its signature has noise, x"):
        SklearnModel(classifier(), contract(tmp_path, names=("noise", "x")))


def test_input_that_is_not_served_is_named():
    """The remedy is in the message."""
    model_inputs.check({"x": InputKind.NUMBER}, GIVEN)
    with pytest.raises(
        InputsError, match=r"its input 'age' is not served; model.yaml declares x, colour, noise"
    ):
        model_inputs.check({"x": InputKind.NUMBER, "age": InputKind.NUMBER}, GIVEN)
    with pytest.raises(InputsError, match="its input 'colour' is a number, but is served as a text"):
        model_inputs.check({"colour": InputKind.NUMBER}, GIVEN)


# --- the golden batch


class Answering:
    def __init__(self, outputs: Any) -> None:
        self.outputs = np.array(outputs)

    def predict(self, columns: model_inputs.Columns) -> Any:
        count = len(next(iter(columns.values())))
        return np.resize(self.outputs, (count, *self.outputs.shape[1:])) if count > 2 else self.outputs


def test_model_that_answers_otherwise_does_not_prove_itself(tmp_path: Path):
    """A billionth may come from another order of additions; more is another model."""
    given = {"x": np.array([1.0, np.nan]), "colour": np.array(["red", None], dtype=object)}
    wanted = {name: GIVEN[name] for name in given}
    golden_batch.write(tmp_path, Answering([0.5, 0.25]), given)
    golden_batch.verify(golden_batch.read(tmp_path, wanted), Answering([0.5, 0.25 + 1e-12]))
    with pytest.raises(GoldenError, match=r"1 of 2 outputs .* first is np.float64\(0.2501\) instead of"):
        golden_batch.verify(golden_batch.read(tmp_path, wanted), Answering([0.5, 0.2501]))
    with pytest.raises(GoldenError, match=r"the shape \(1, 2\), expected \(2,\)"):
        golden_batch.verify(golden_batch.read(tmp_path, wanted), Answering([[0.5, 0.25]]))


def test_golden_batch_holds_rows_as_the_model_gets_them(tmp_path: Path):
    """Missing numbers and missing texts come back as what they were."""
    seen = []

    class Watching(Answering):
        def predict(self, columns: model_inputs.Columns) -> Any:
            seen.append(columns)
            return super().predict(columns)

    given = {"x": np.array([1.5, np.nan]), "colour": np.array(["red", None], dtype=object)}
    golden_batch.write(tmp_path, Watching([0.0, 1.0]), given)
    golden_batch.verify(
        golden_batch.read(tmp_path, {name: GIVEN[name] for name in given}), Watching([0.0, 1.0])
    )
    written, few, many = seen
    for name in given:
        pd.testing.assert_series_equal(pd.Series(few[name]), pd.Series(written[name]))
        pd.testing.assert_series_equal(pd.Series(many[name][-2:]), pd.Series(written[name]))
        assert len(many[name]) == golden_batch.MANY_ROWS


def test_model_that_answers_many_rows_otherwise_does_not_prove_itself(tmp_path: Path):
    """As one does that has another way for them, which differs."""

    class Other(Answering):
        def predict(self, columns: model_inputs.Columns) -> Any:
            return super().predict(columns) + (len(columns["x"]) > golden_batch.ROWS_MAX)

    golden_batch.write(tmp_path, Answering([0.5, 0.25]), {"x": np.array([1.0, 2.0])})
    with pytest.raises(GoldenError, match="128 of 128 outputs"):
        golden_batch.verify(golden_batch.read(tmp_path, {"x": InputKind.NUMBER}), Other([0.5, 0.25]))


def test_version_without_a_golden_batch_is_refused(tmp_path: Path):
    """There is no proof without one."""
    with pytest.raises(GoldenError, match="its golden batch cannot be read"):
        golden_batch.verify(golden_batch.read(tmp_path, {}), Answering([0.5]))


def test_batch_is_spread_over_the_rows():
    """From the first to the last, each at most once."""
    assert golden_batch.spread(3).tolist() == [0, 1, 2]
    taken = golden_batch.spread(1000)
    assert (len(taken), taken[0], taken[-1]) == (64, 0, 999)


# --- all of it


def test_sealed_estimator_is_loaded_and_proved(tmp_path: Path):
    """Its size is that of its arrays; its tags are those that loading verifies."""
    own, declared, folder = settings(tmp_path), declaration(), tmp_path / "model"
    tags = registration.seal_estimator(own, declared, GIVEN, classifier(), rows(), folder)
    statement = loading.statement_of(own, "m", tags)
    model = loading.open_folder(own, declared, GIVEN, statement.flavour, folder).model
    assert np.array_equal(model.predict(columns()), classifier().predict_proba(rows().head(3))[:, 1])
    assert 5_000 < model.size_bytes < 200_000
    assert len(msgspec.json.decode((folder / golden_batch.FILE).read_bytes())["outputs"]) == 64


def test_estimator_that_could_not_be_served_is_not_sealed(tmp_path: Path):
    """What scoring would refuse is refused where it is made."""
    with pytest.raises(InputsError, match="its input 'noise' is not served"):
        registration.seal_estimator(
            settings(tmp_path),
            declaration(),
            {"x": InputKind.NUMBER},
            classifier(),
            rows(),
            tmp_path / "model",
        )


def test_type_that_the_operator_does_not_trust_is_refused(tmp_path: Path):
    """The list is the operator's own."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    estimator = make_pipeline(FunctionTransformer(np.nan_to_num), classifier()).fit(rows(), rows()["x"] > 0)
    with pytest.raises(ContractError, match=r"nan_to_num.*DRIFTLINE_TRUSTED_TYPES"):
        registration.seal_estimator(
            settings(tmp_path), declaration(), GIVEN, estimator, rows(), tmp_path / "first"
        )
    trusting = settings(tmp_path, trusted_types="numpy.nan_to_num")
    registration.seal_estimator(trusting, declaration(), GIVEN, estimator, rows(), tmp_path / "second")


def test_flavour_that_nobody_knows_is_refused(tmp_path: Path):
    """The known ones are named."""
    with pytest.raises(ContractError, match="'onnx' is not supported; supported are sklearn, pyfunc"):
        flavours.load("onnx", tmp_path, contract(tmp_path))


def test_model_that_raises_is_told_as_a_fault_of_its_version(tmp_path: Path):
    """Whatever it raises, when it is loaded or when it is asked."""

    class Broken(Answering):
        def predict(self, columns: model_inputs.Columns) -> Any:
            raise KeyError("x")

    golden_batch.write(tmp_path, Answering([0.5]), {"x": np.ones(1)})
    with pytest.raises(GoldenError, match=r"fails on its golden batch: KeyError\('x'\)"):
        golden_batch.verify(golden_batch.read(tmp_path, {"x": InputKind.NUMBER}), Broken([]))
    (tmp_path / "model.skops").write_bytes(b"no archive")
    with pytest.raises(ContractError, match="it does not load: BadZipFile"):
        flavours.load("sklearn", tmp_path, contract(tmp_path))


def test_pyfunc_of_a_team_that_is_not_trusted_is_not_loaded(tmp_path: Path):
    """Its folder is not even looked at."""
    with pytest.raises(ContractError, match="its team 'risk' is not in DRIFTLINE_TRUSTED_TEAMS"):
        flavours.load("pyfunc", tmp_path / "absent", contract(tmp_path))


def test_version_without_tags_is_not_signed(tmp_path: Path):
    """The error says how to come by them."""
    with pytest.raises(signing.SigningError, match=r"not signed.*driftline models register"):
        loading.statement_of(settings(tmp_path), "m", {"driftline.flavour": "sklearn"})
