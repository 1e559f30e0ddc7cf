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
