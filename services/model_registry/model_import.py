"""Import of models that were trained elsewhere."""

import dataclasses
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.model_registry import bounded_download, mlflow_client, model_inputs, registration
from services.model_registry.bounded_download import SizeError
from services.model_registry.contract import ContractError
from services.model_registry.golden_batch import GoldenError, one_line
from services.model_registry.model_inputs import Inputs
from services.model_registry.registration import Tags
from services.model_registry.sealed_reference import MakeReference
from services.model_registry.sklearn_flavour import model as sklearn_model
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

PICKLES = (".pkl", ".pickle", ".joblib")
SKLEARN = "mlflow.sklearn"


@dataclasses.dataclass(frozen=True)
class ImportSource:
    """A model to import, with rows of its author."""

    settings: Settings
    uri: str
    rows: Path | None
    make_reference: MakeReference | None = None
    _: dataclasses.KW_ONLY
    allow_pickle: bool


def seal(source: ImportSource, declaration: ModelDeclaration, given: Inputs, folder: Path) -> Tags:
    """Save a model into a new folder in the form in which it is registered; return the tags of its version.

    Raises `ContractError`, `InputsError` or `GoldenError` for a model that could not be served.
    """
    settings = source.settings
    mlflow_client.connect(settings)  # configures MLflow before it reads or writes a model
    with tempfile.TemporaryDirectory(prefix="driftline-source-") as work:
        path = _fetch(source, Path(work))
        if path.is_dir() and not (path / "MLmodel").is_file():
            raise ContractError(
                f"{source.uri} is neither a model file nor an MLflow model (it has no file MLmodel)"
            )
        if path.is_dir() and _loader_of(path) != SKLEARN:
            shutil.copytree(path, folder)
            return registration.seal_pyfunc(
                settings, declaration, given, _rows(source, path), folder, source.make_reference
            )
        rows = _rows(source, path)
        if path.is_dir():
            estimator, names = _read_mlflow(source, path), list(model_inputs.signature(path))
        else:
            estimator = _read_file(source, path)
            names = [str(name) for name in getattr(estimator, "feature_names_in_", rows.columns)]
        model_inputs.check_columns(rows, names)
        return registration.seal_estimator(
            settings, declaration, given, estimator, rows[names], folder, source.make_reference
        )


def _fetch(source: ImportSource, work: Path) -> Path:
    """Return the path of a URI's file or folder, downloaded unless it is on this machine."""
    from mlflow.exceptions import MlflowException

    local = Path(source.uri)
    if local.exists():
        return local
    settings = source.settings
    bytes_max = settings.model_version_mib_max * bounded_download.MIB
    try:
        return bounded_download.download_from(source.uri, work, settings.mlflow_uri, bytes_max)
    except (MlflowException, OSError, SizeError) as error:
        raise ContractError(f"{source.uri} cannot be read: {error}") from error


def _loader_of(path: Path) -> str:
    from mlflow.models import Model

    model = _read(lambda: Model.load(str(path)), str(path / "MLmodel"))
    return str(model.flavors.get("python_function", {}).get("loader_module", ""))


def _read_file(source: ImportSource, path: Path) -> Any:
    if path.suffix == ".skops":
        return _read(lambda: sklearn_model.read(path, source.settings), path.name)
    if path.suffix not in PICKLES:
        raise ContractError(
            f"{path.name} has an unsupported format: give .skops, {', '.join(PICKLES)} or the folder of an "
            "MLflow model"
        )
    _check_pickle(source, path.name)
    import joblib

    return _read(lambda: joblib.load(path), path.name)


def _read_mlflow(source: ImportSource, path: Path) -> Any:
    """Return the estimator of an MLflow model of its scikit-learn flavour."""
    saved = path / sklearn_model.MODEL_FILE
    if saved.is_file():
        return _read(lambda: sklearn_model.read(saved, source.settings), source.uri)
    _check_pickle(source, source.uri)
    import mlflow.sklearn

    return _read(lambda: mlflow.sklearn.load_model(str(path)), source.uri)


def _read(load: Callable[[], Any], name: str) -> Any:
    try:
        return load()
    except ContractError:
        raise
    except Exception as error:  # whatever a library or a pickle raises
        raise ContractError(
            f"{name} cannot be read: {one_line(error)}: install the libraries with which it was saved"
        ) from error


def _check_pickle(source: ImportSource, name: str) -> None:
    if not source.allow_pickle:
        raise ContractError(
            f"{name} is a pickle, and reading a pickle runs its code on this machine: pass --allow-pickle if "
            "you trust it, or save the model with skops"
        )


def _rows(source: ImportSource, model: Path) -> "pd.DataFrame":
    """Return the rows on which the model is proved."""
    import pandas as pd

    if source.rows is not None:
        try:
            read = pd.read_parquet if source.rows.suffix == ".parquet" else pd.read_csv
            return read(source.rows)
        except (OSError, ValueError) as error:
            raise GoldenError(f"the rows in {source.rows} cannot be read: {one_line(error)}") from error
    example = _example(model) if model.is_dir() else None
    if not isinstance(example, pd.DataFrame):
        raise GoldenError("there are no rows for its golden batch: give a file of inputs with --rows")
    return example


def _example(model: Path) -> Any:
    from mlflow.models import Model

    try:
        return Model.load(str(model)).load_input_example(str(model))
    except Exception as error:  # whatever MLflow or pandas raises for a damaged file
        raise GoldenError(f"its input example cannot be read: {one_line(error)}: give --rows") from error
