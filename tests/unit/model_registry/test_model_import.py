"""Models that were trained elsewhere: checked, and brought into the form in which versions are kept."""

import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from services.model_registry import loading, model_import
from services.model_registry.contract import ContractError
from services.model_registry.golden_batch import GoldenError
from services.model_registry.model_import import ImportSource
from services.model_registry.model_inputs import InputsError
from services.model_registry.sklearn_flavour import model as sklearn_model
from tests.unit.model_registry.installation import GIVEN, classifier, declaration, rows, settings

MODULE = """
import pandas as pd


class Half:
    def predict(self, frame):
        return frame["x"].clip(0, 1) / 2


def _load_pyfunc(path):
    return Half()
"""


def seal(
    tmp_path: Path, path: Path, *, allow_pickle: bool = False, with_rows: bool = True, **changes: Any
) -> Any:
    """Bring a model in; return how it answers `rows` once it is loaded as in scoring."""
    frame = tmp_path / "rows.csv"
    rows().to_csv(frame, index=False)
    own, folder = settings(tmp_path, **changes), tmp_path / "version"
    source = ImportSource(own, str(path), frame if with_rows else None, allow_pickle=allow_pickle)
    tags = model_import.seal(source, declaration(), GIVEN, folder)
    flavour = loading.statement_of(own, "m", tags).flavour
    model = loading.open_folder(own, declaration(), GIVEN, flavour, folder).model
    return model.predict({str(name): rows()[name].to_numpy() for name in rows()})


def expected() -> Any:
    return classifier().predict_proba(rows())[:, 1]


def save_mlflow(folder: Path, *, form: str, example: pd.DataFrame | None = None) -> Path:
    import mlflow.sklearn
    from mlflow.models import infer_signature

    mlflow.sklearn.save_model(
        classifier(),
        str(folder),
        serialization_format=form,
        skops_trusted_types=list(sklearn_model.TRUSTED_TYPES) if form == "skops" else None,
        signature=infer_signature(rows()),
        input_example=example,
        pip_requirements=["scikit-learn"],
    )
    return folder


@pytest.mark.parametrize("suffix", [".pkl", ".joblib"])
def test_pickle_is_read_only_when_told_to_and_kept_as_skops(tmp_path: Path, suffix: str):
    """Reading it runs code here, once, by the will of its owner; scoring never does."""
    path = (tmp_path / "model").with_suffix(suffix)
    path.write_bytes(pickle.dumps(classifier()))
    with pytest.raises(ContractError, match="pass --allow-pickle"):
        seal(tmp_path, path)
    assert np.array_equal(seal(tmp_path, path, allow_pickle=True), expected())
    kept = {each.suffix for each in (tmp_path / "version").iterdir()}
    assert ".skops" in kept
    assert not kept & {".pkl", ".joblib"}


def test_skops_file_needs_no_permission(tmp_path: Path):
    """It is read within the trusted types."""
    import skops.io

    skops.io.dump(classifier(), tmp_path / "model.skops")
    assert np.array_equal(seal(tmp_path, tmp_path / "model.skops"), expected())


def test_mlflow_model_is_proved_by_its_own_example(tmp_path: Path):
    """No file of rows is needed where the model brings an example."""
    folder = save_mlflow(tmp_path / "given", form="skops", example=rows().head(20))
    assert np.array_equal(seal(tmp_path, folder, with_rows=False), expected())


def test_model_without_rows_asks_for_them(tmp_path: Path):
    """There is nothing to prove it by."""
    folder = save_mlflow(tmp_path / "given", form="skops")
    with pytest.raises(GoldenError, match="with --rows"):
        seal(tmp_path, folder, with_rows=False)


def test_pickled_mlflow_model_is_refused_unless_told_otherwise(tmp_path: Path):
    """MLflow's default form is a pickle, too."""
    folder = save_mlflow(tmp_path / "given", form="cloudpickle")
    with pytest.raises(ContractError, match="pass --allow-pickle"):
        seal(tmp_path, folder)


def test_pyfunc_model_is_for_trusted_teams(tmp_path: Path):
    """Its folder is copied unchanged, with the golden batch added."""
    import mlflow.pyfunc
    from mlflow.models import infer_signature

    (tmp_path / "half_of_x.py").write_text(MODULE)
    mlflow.pyfunc.save_model(
        str(tmp_path / "given"),
        loader_module="half_of_x",
        code_paths=[str(tmp_path / "half_of_x.py")],
        data_path=str(tmp_path / "half_of_x.py"),
        signature=infer_signature(rows()),
        pip_requirements=["pandas"],
    )
    with pytest.raises(ContractError, match="DRIFTLINE_TRUSTED_TEAMS"):
        seal(tmp_path, tmp_path / "given")
    shutil.rmtree(tmp_path / "version")
    answer = seal(tmp_path, tmp_path / "given", trusted_teams="fraud, risk")
    assert np.array_equal(answer, rows()["x"].clip(0, 1) / 2)


def test_rows_that_lack_a_column_are_refused(tmp_path: Path):
    """The column is named."""
    import skops.io

    estimator = classifier()
    estimator.feature_names_in_ = np.array(["x", "age"], dtype=object)
    skops.io.dump(estimator, tmp_path / "model.skops")
    with pytest.raises(InputsError, match="no column age"):
        seal(tmp_path, tmp_path / "model.skops")


@pytest.mark.parametrize("name", ["model.onnx", "folder"])
def test_what_is_no_model_is_refused(tmp_path: Path, name: str):
    """The known forms are named."""
    path = tmp_path / name
    path.mkdir() if name == "folder" else path.write_bytes(b"")
    with pytest.raises(ContractError, match=r"MLflow"):
        seal(tmp_path, path)


CITIES = ["Oslo", "Rome", None, "Bern", "Lima"]
SPARSE = {"handle_unknown": "ignore"}


def trips(marker: Any) -> pd.DataFrame:
    """Return rows of which a notebook trains, with its own missing value."""
    cities = [marker if city is None else city for city in CITIES * 40]
    noise = np.random.default_rng(3).normal(size=200)
    return pd.DataFrame({"x": noise.cumsum(), "colour": np.array(cities, dtype=object), "noise": noise})


def trip_model(encoder: Any, rows_: pd.DataFrame) -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    labels = (np.arange(200) % 5 == 2) | (rows_["noise"] > 1)
    columns = ColumnTransformer([("texts", encoder, ["colour"]), ("rest", "passthrough", ["x", "noise"])])
    return make_pipeline(columns, LogisticRegression(max_iter=2_000)).fit(rows_, labels)


def encoders() -> dict[str, Any]:
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, TargetEncoder

    filled = SimpleImputer(strategy="most_frequent")
    return {
        "one hot": OneHotEncoder(**SPARSE),
        "strict one hot": OneHotEncoder(),
        "imputer, one hot": make_pipeline(filled, OneHotEncoder(**SPARSE)),
        "ordinal": OrdinalEncoder(
            handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2
        ),
        "target": TargetEncoder(random_state=1),
    }


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("marker", [None, np.nan], ids=["None", "nan"])
@pytest.mark.parametrize("encoder", encoders().values(), ids=encoders().keys())
def test_missing_text_is_scored_as_in_the_notebook(
    tmp_path: Path, encoder: Any, marker: Any, suffix: str
) -> None:
    """Whatever stood for it there, whichever file the rows are in, and however many rows are asked."""
    import skops.io

    trained = trips(marker)
    estimator = trip_model(encoder, trained)
    skops.io.dump(estimator, tmp_path / "model.skops")
    frame = tmp_path / f"rows.{suffix}"
    trained.to_csv(frame, index=False) if suffix == "csv" else trained.to_parquet(frame)
    own, folder = settings(tmp_path), tmp_path / "version"
    source = ImportSource(own, str(tmp_path / "model.skops"), frame, allow_pickle=False)
    tags = model_import.seal(source, declaration(), GIVEN, folder)
    flavour = loading.statement_of(own, "m", tags).flavour
    model = loading.open_folder(own, declaration(), GIVEN, flavour, folder).model

    served = {"x": trained["x"].to_numpy(), "noise": trained["noise"].to_numpy()}
    served["colour"] = np.array(CITIES * 40, dtype=object)
    notebook = estimator.predict_proba(trained)[:, 1]
    for count in (1, 5, 64, 200):
        some = {name: column[200 - count :] for name, column in served.items()}
        assert np.allclose(model.predict(some), notebook[200 - count :], rtol=1e-9)
    missing = {name: column[2:3] for name, column in served.items()}
    assert np.allclose(model.predict(missing), notebook[2:3], rtol=1e-9)


TYPED = """
import pandas as pd


class Typed:
    def predict(self, frame):
        key = frame["hour"].map(lambda hour: len(str(hour)))
        return key + frame["is_late"].map(lambda late: 10 * (late is True)) + frame["at"].map(len) * 100


def _load_pyfunc(path):
    return Typed()
"""


def typed_declaration() -> Any:
    schema = {"id": "string", "at": "timestamp", "hour": "int?", "is_late": "bool"}
    return declaration(
        "regression",
        request={"topic": "requests", "id": "id", "event_time": "at", "schema": schema},
        features={"service": "s", "from_request": ["hour", "is_late", "at"]},
    )


def test_pyfunc_model_gets_the_types_of_its_signature(tmp_path: Path) -> None:
    """As from MLflow itself; a row without a required value is an error that names it."""
    import mlflow.pyfunc
    from mlflow.models import infer_signature

    from services.model_registry import model_inputs
    from services.model_registry.input_format import RowsError
    from services.model_registry.model_inputs import InputKind

    frame = pd.DataFrame(
        {"hour": [3, 14, 2**53 + 1], "is_late": [True, False, True], "at": ["2013-07-01T16:05:00Z"] * 3}
    )
    (tmp_path / "typed_module.py").write_text(TYPED)
    mlflow.pyfunc.save_model(
        str(tmp_path / "given"),
        loader_module="typed_module",
        code_paths=[str(tmp_path / "typed_module.py")],
        data_path=str(tmp_path / "typed_module.py"),
        signature=infer_signature(frame),
        pip_requirements=["pandas"],
    )
    frame.to_csv(tmp_path / "rows.csv", index=False)
    own, declared, folder = (
        settings(tmp_path, trusted_teams="risk"),
        typed_declaration(),
        tmp_path / "version",
    )
    given = {"hour": InputKind.NUMBER, "is_late": InputKind.NUMBER, "at": InputKind.TIME}
    source = ImportSource(own, str(tmp_path / "given"), tmp_path / "rows.csv", allow_pickle=False)
    tags = model_import.seal(source, declared, given, folder)
    flavour = loading.statement_of(own, "m", tags).flavour
    model = loading.open_folder(own, declared, given, flavour, folder).model

    served = model_inputs.columns_of(frame, given)
    expected = mlflow.pyfunc.load_model(str(tmp_path / "given")).predict(frame).tolist()
    assert expected == [2011, 2002, 2026]
    assert model.predict(served).tolist() == expected
    served["hour"] = np.array([3.0, np.nan, 3.0])
    with pytest.raises(
        RowsError, match=r"its input 'hour' has no value, but the model needs a long \(row 1\)"
    ):
        model.predict(served)


def test_model_that_fails_on_its_rows_is_refused_in_one_line(tmp_path: Path) -> None:
    """The column and the error are named."""
    import skops.io
    from sklearn.preprocessing import OneHotEncoder

    estimator = trip_model(OneHotEncoder(), trips("Riga"))
    skops.io.dump(estimator, tmp_path / "model.skops")
    trips("Kyiv").to_csv(tmp_path / "trips.csv", index=False)
    source = ImportSource(
        settings(tmp_path), str(tmp_path / "model.skops"), tmp_path / "trips.csv", allow_pickle=False
    )
    with pytest.raises(
        GoldenError, match=r"fails on its rows at its input 'colour' \('Kyiv', row 2\)"
    ) as raised:
        model_import.seal(source, declaration(), GIVEN, tmp_path / "version")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"no pickle", pickle.dumps(1)[:-3]])
def test_file_that_cannot_be_read_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    for name in ("model.pkl", "model.skops"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ContractError, match=f"{name} cannot be read") as raised:
            seal(tmp_path, tmp_path / name, allow_pickle=True)
        assert "\n" not in str(raised.value)


def test_model_that_is_too_large_is_not_downloaded(tmp_path: Path) -> None:
    (tmp_path / "model.skops").write_bytes(b"0" * (2 << 20))
    source = ImportSource(
        settings(tmp_path, model_version_mib_max=1),
        (tmp_path / "model.skops").as_uri(),
        None,
        allow_pickle=False,
    )
    with pytest.raises(ContractError, match="cannot be read: its files have more than 1 MiB") as raised:
        model_import.seal(source, declaration(), GIVEN, tmp_path / "version")
    assert "\n" not in str(raised.value)
