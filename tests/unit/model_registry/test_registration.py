"""What is sealed can be loaded; what scoring would refuse is not sealed."""

import datetime as dt
import pickle
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest

from services.model_registry import golden_batch, loading, model_inputs, registration
from services.model_registry.contract import ContractError
from services.model_registry.model_inputs import InputKind, InputsError
from tests.unit.model_registry.installation import (
    GIVEN,
    classifier,
    columns,
    declaration,
    rows,
    settings,
)


def test_sealed_estimator_is_loaded_and_verified(tmp_path: Path):
    """Its size is that of its arrays; its tags are those that loading verifies."""
    own, declared, folder = settings(tmp_path), declaration(), tmp_path / "model"
    tags = registration.seal_estimator(own, declared, GIVEN, classifier(), rows(), folder)
    statement = loading.statement_of(own, "m", tags)
    model = loading.open_folder(own, declared, GIVEN, statement.flavour, folder).model
    assert np.array_equal(model.predict(columns()), classifier().predict_proba(rows().head(3))[:, 1])
    assert 5_000 < model.size_bytes < 200_000
    assert len(msgspec.json.decode((folder / golden_batch.FILE).read_bytes())["outputs"]) == 64


def test_estimator_that_could_not_be_served_is_not_sealed(tmp_path: Path):
    """An estimator that scoring would refuse is not registered."""
    with pytest.raises(InputsError, match="its input 'noise' is not served"):
        registration.seal_estimator(
            settings(tmp_path),
            declaration(),
            {"x": InputKind.NUMBER},
            classifier(),
            rows(),
            tmp_path / "model",
        )


def test_whole_numbers_of_an_encoder_stay_exact(tmp_path: Path):
    """Two ids that are the same as float64 are two categories, and get their own scores."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    ids = np.array([2**53, 2**53 + 1] * 20)
    frame = pd.DataFrame({"x": ids})
    estimator = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(frame, ids % 2)
    own, folder = settings(tmp_path), tmp_path / "model"
    declared = declaration(
        request={
            "topic": "requests",
            "id": "id",
            "event_time": "at",
            "schema": {"id": "string", "at": "timestamp", "x": "int"},
        },
        features={"service": "s", "from_request": ["x"]},
    )
    registration.seal_estimator(own, declared, GIVEN, estimator, frame, folder)
    model = loading.open_folder(own, declared, GIVEN, "sklearn", folder).model
    assert np.array_equal(model.predict({"x": ids}), estimator.predict_proba(frame)[:, 1])
    assert len(np.unique(model.predict({"x": ids}))) == 2


def test_version_that_another_process_loaded_converts_its_inputs_as_well(tmp_path: Path):
    """It is sent with the formats of its inputs."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    frame = pd.DataFrame({"colour": ["red", np.nan, "blue"] * 10})
    estimator = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(frame, frame["colour"].isna())
    own, declared, folder = settings(tmp_path), declaration(), tmp_path / "model"
    registration.seal_estimator(own, declared, GIVEN, estimator, frame, folder)
    model = loading.open_folder(own, declared, GIVEN, "sklearn", folder).model
    served = {"colour": np.array(["red", None, "blue"], dtype=object)}
    expected = estimator.predict_proba(frame.head(3))[:, 1]
    for each in (model, pickle.loads(pickle.dumps(model))):
        assert np.allclose(each.predict(served), expected)


@pytest.mark.parametrize("is_text", [True, False])
def test_time_reaches_the_model_as_its_author_had_it(tmp_path: Path, *, is_text: bool):
    """As the text of its training rows, or as a time."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder

    times = [f"2013-07-0{day}T16:05:00Z" for day in (1, 2, 3, 4)] * 5
    frame = pd.DataFrame({"at": times if is_text else pd.to_datetime(times).tz_localize(None)})
    estimator = make_pipeline(OrdinalEncoder(), LogisticRegression()).fit(frame, np.arange(20) % 4 > 1)
    own, folder = settings(tmp_path), tmp_path / "model"
    declared = declaration(features={"service": "s", "from_request": ["at"]})
    given = {"at": InputKind.TIME}
    registration.seal_estimator(own, declared, given, estimator, frame, folder)
    model = loading.open_folder(own, declared, given, "sklearn", folder).model
    served = model_inputs.columns_of(frame, given)
    assert served["at"][0] == dt.datetime(2013, 7, 1, 16, 5, tzinfo=dt.UTC)
    assert np.allclose(model.predict(served), estimator.predict_proba(frame)[:, 1])


def test_number_where_a_text_is_served_is_refused_by_name(tmp_path: Path):
    """A file of rows has lost the zeros of a code, for example."""
    from sklearn.dummy import DummyClassifier

    frame = rows().assign(colour=7)
    estimator = DummyClassifier().fit(frame, frame["x"] > 0)
    with pytest.raises(InputsError, match=r"the column 'colour' of the rows .* is a text: 7 is not a text"):
        registration.seal_estimator(settings(tmp_path), declaration(), GIVEN, estimator, frame, tmp_path)


def test_untrusted_type_is_refused(tmp_path: Path):
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
