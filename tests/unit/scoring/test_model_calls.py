"""A quick model is called in the event loop, any other on a thread; rows at fault are found in both cases."""

import asyncio
import threading

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from services.model_registry import model_inputs
from services.model_registry.contract import Contract, LoadedVersion
from services.model_registry.golden_batch import GoldenBatch, GoldenError
from services.model_registry.input_format import RowsError
from services.model_registry.model_inputs import InputKind
from services.model_registry.sklearn_flavour.model import SklearnModel
from services.runtime.settings import Settings
from services.scoring.call_timing import QUICK_SECONDS, SLOW_SECONDS, TRIALS, CallTiming
from services.scoring.model_calls import predict_isolating
from services.scoring.outputs import PredictionTask
from tests.unit.scoring.fakes import HalfOfX, ManualClock, TimedModel, declaration, event, pipeline


def scored(subject, times, x=1.0):
    """Score two rows, several times."""

    async def run():
        batches = []
        for number in range(times):
            batch, _ = await subject.score([event(subject, number, x=x), event(subject, number)])
            batches.append(batch)
        return batches

    return asyncio.run(run())


def prove_quick(subject, model, rows=2):
    for _ in range(TRIALS):
        subject.calls.timing_of(model).record(rows, QUICK_SECONDS / 10)


def test_a_quick_model_moves_into_the_event_loop_and_predicts_the_same():
    model, clock = TimedModel(), ManualClock()
    subject = pipeline(models={1: model}, new_timing=lambda: CallTiming(clock, clock))
    (before,) = scored(subject, 1)
    prove_quick(subject, model)
    (after,) = scored(subject, 1)
    assert model.threads[0] is not threading.main_thread()
    assert model.threads[1] is threading.main_thread()
    assert before.outputs.tolist() == after.outputs.tolist() == [0.5, 0.5]


def test_a_slow_model_stays_on_its_thread():
    clock = ManualClock()
    model = TimedModel(clock, 2 * SLOW_SECONDS)
    subject = pipeline(models={1: model}, new_timing=lambda: CallTiming(clock, clock))
    scored(subject, TRIALS + 5)
    assert not subject.calls.timing_of(model).is_quick(2)
    assert threading.main_thread() not in model.threads


def test_rows_at_fault_are_found_for_a_quick_model_too():
    model, clock = HalfOfX(poison=7.0), ManualClock()
    subject = pipeline(models={1: model}, new_timing=lambda: CallTiming(clock, clock))
    prove_quick(subject, model)
    (batch,) = scored(subject, 1, x=7.0)
    assert list(batch.failed) == [0]
    assert np.isnan(batch.outputs[0])
    assert batch.outputs[1] == 0.5


@given(st.sets(st.integers(0, 30), max_size=30), st.integers(1, 31))
def test_isolation_finds_exactly_the_rows_at_fault(poisoned, count):
    class Sensitive:
        size_bytes = 0

        def predict(self, columns):
            if poisoned & set(columns["x"].astype(int).tolist()):
                raise ValueError("poison")
            return columns["x"]

    columns = {"x": np.arange(count, dtype=float)}
    golden = GoldenBatch({"x": np.array([99.0])}, np.array([99.0]))
    version = LoadedVersion(Sensitive(), golden)
    at_fault = poisoned & set(range(count))
    scores, errors = predict_isolating(version, PredictionTask(declaration()), columns)
    assert set(errors) == at_fault
    assert set(np.flatnonzero(np.isnan(scores)).tolist()) == at_fault


def logistic_regression():
    """Return a version whose estimator refuses missing numbers, as scikit-learn's linear models do."""
    inputs = {"x": InputKind.NUMBER, "km": InputKind.NUMBER}
    frame = pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0], "km": [1.0, 0.0, 1.0, 0.0]})
    estimator = LogisticRegression().fit(frame, [0, 0, 1, 1])
    model = SklearnModel(estimator, Contract(Settings(), declaration(), inputs))
    columns = model_inputs.columns_of(frame, inputs)
    return LoadedVersion(model, GoldenBatch(columns, model.predict(columns)))


@pytest.mark.parametrize("count", [1, 2, 100])
def test_a_missing_number_is_the_fault_of_its_row_alone_and_in_company(count):
    version, task = logistic_regression(), PredictionTask(declaration())
    columns = {"x": np.ones(count), "km": np.zeros(count)}
    columns["km"][-1] = np.nan
    outputs, errors = predict_isolating(version, task, columns)
    assert list(errors) == [count - 1]
    assert "NaN" in errors[count - 1]
    assert np.isfinite(outputs[:-1]).all()


FRAME = pd.DataFrame(
    {
        "x": np.linspace(-1, 1, 300),
        "km": np.cos(np.arange(300.0)),
        "colour": np.resize(np.array(["red", "blue"], dtype=object), 300),
    }
)
ENCODED = ColumnTransformer([("colour", OneHotEncoder(), ["colour"])], remainder="passthrough")
"""Refuses an unknown colour."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "last",
    [
        LogisticRegression(),
        RandomForestClassifier(5, random_state=0),
        GradientBoostingClassifier(n_estimators=5),
        HistGradientBoostingClassifier(max_iter=5),
    ],
    ids=lambda each: type(each).__name__,
)
def test_each_row_has_the_same_output_or_error_alone_and_in_company(last):
    inputs = dict.fromkeys(("x", "km"), InputKind.NUMBER) | {"colour": InputKind.TEXT}
    estimator = Pipeline([("encoded", ENCODED), ("last", last)]).fit(FRAME, FRAME["x"] > 0)
    version = LoadedVersion(SklearnModel(estimator, Contract(Settings(), declaration(), inputs)))
    columns = {name: FRAME[name].to_numpy(copy=True) for name in inputs}
    columns["x"][10], columns["km"][20], columns["km"][21] = np.nan, 1e39, -1e308
    columns["colour"][30], columns["colour"][31] = "green", None
    task = PredictionTask(declaration())
    outputs, errors = predict_isolating(version, task, columns)
    assert {30, 31} <= errors.keys() <= {10, 20, 21, 30, 31}
    for rows in (slice(5, 15), slice(10, 75), *(slice(row, row + 1) for row in (0, 10, 20, 21, 30, 31))):
        part = {name: column[rows] for name, column in columns.items()}
        found, found_errors = predict_isolating(version, task, part)
        np.testing.assert_allclose(found, outputs[rows], rtol=1e-9, atol=1e-12)
        assert {rows.start + row: error for row, error in found_errors.items()} == {
            row: error for row, error in errors.items() if rows.start <= row < rows.stop
        }


def test_a_version_that_fails_on_its_golden_batch_is_at_fault_after_two_calls_more():
    version, calls = logistic_regression(), []

    class Broken:
        size_bytes = 0

        def predict(self, columns):
            calls.append(len(columns["x"]))
            raise OSError("its file is gone")

    with pytest.raises(GoldenError, match="its file is gone"):
        predict_isolating(
            LoadedVersion(Broken(), version.batch), PredictionTask(declaration()), {"x": np.ones(1000)}
        )
    assert calls == [1000, 4]


def test_rows_that_a_version_cannot_get_are_refused_without_a_search():
    """The other rows are scored in one more call."""
    calls = []

    class Strict:
        size_bytes = 0

        def predict(self, columns):
            calls.append(len(columns["x"]))
            missing = np.flatnonzero(np.isnan(columns["x"])).tolist()
            if missing:
                raise RowsError(dict.fromkeys(missing, "its input 'x' has no value"))
            return columns["x"] / 2

    task, version = PredictionTask(declaration()), LoadedVersion(Strict())
    outputs, errors = predict_isolating(version, task, {"x": np.array([1.0, np.nan, 0.5, np.nan])})
    assert errors == {1: "its input 'x' has no value", 3: "its input 'x' has no value"}
    assert outputs[[0, 2]].tolist() == [0.5, 0.25]
    assert calls == [4, 2]
    assert predict_isolating(version, task, {"x": np.array([np.nan])})[1].keys() == {0}


def test_row_that_a_version_cannot_get_is_the_fault_of_its_request():
    """The caller gets 422, a topic's record is a dead letter, and the neighbour is answered."""

    class Strict(HalfOfX):
        def predict(self, columns):
            if (columns["x"] == 7.0).any():
                raise RowsError({0: "its input 'x' is 7.0, which is no boolean"})
            return super().predict(columns)

    subject = pipeline(models={1: Strict()})
    (batch,) = scored(subject, 1, x=7.0)
    assert batch.failed == {0: "its input 'x' is 7.0, which is no boolean"}
    assert batch.rejected == {0}
    assert batch.outputs[1] == 0.5


class Panic(BaseException):
    """As a library in Rust raises."""


@pytest.mark.parametrize("error", [Panic("index out of bounds"), SystemExit(3)], ids=repr)
@pytest.mark.parametrize("is_quick", [True, False])
def test_a_row_on_which_a_model_panics_or_exits_is_alone_at_fault(error, is_quick):
    class Exits(TimedModel):
        def predict(self, columns):
            if (columns["x"] == 7.0).any():
                raise error
            return super().predict(columns)

    model, clock = Exits(), ManualClock()
    subject = pipeline(models={1: model}, new_timing=lambda: CallTiming(clock, clock))
    if is_quick:
        prove_quick(subject, model)
    (batch,) = scored(subject, 1, x=7.0)
    assert list(batch.failed) == [0]
    assert batch.outputs[1] == 0.5


def test_a_version_that_exits_on_its_golden_batch_is_at_fault():
    class Exits:
        size_bytes = 0

        def predict(self, columns):
            raise SystemExit(3)

    batch = logistic_regression().batch
    with pytest.raises(GoldenError, match="SystemExit"):
        predict_isolating(LoadedVersion(Exits(), batch), PredictionTask(declaration()), {"x": np.ones(1)})
