"""Registration of a version: it is saved, verified by its golden batch and signed, then registered."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.model_registry import (
    folder_digest,
    golden_batch,
    loading,
    mlflow_client,
    model_inputs,
    pyfunc_model,
    signing,
)
from services.model_registry.contract import Contract, Model
from services.model_registry.model_inputs import Inputs
from services.model_registry.sklearn_flavour import model as sklearn_model
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

EXAMPLE_ROWS = 3
"""Rows of the input example that MLflow shows."""
FOLDER = "model"
"""Folder of a version's files, among the artifacts of its run."""

Tags = dict[str, str]


def seal_estimator(
    settings: Settings,
    declaration: ModelDeclaration,
    given: Inputs,
    estimator: Any,
    rows: "pd.DataFrame",
    folder: Path,
) -> Tags:
    """Save a scikit-learn estimator into a new folder; return the tags that its version needs.

    Args:
        settings: The signing key and the trusted types.
        declaration: The model's declaration.
        given: The inputs that are served to the model.
        estimator: The fitted estimator, which computes the outputs of the golden batch.
        rows: Inputs with the model's columns in order; the golden batch is taken from them.
        folder: The folder for the version's files.

    Raises `InputsError`, `ContractError` or `GoldenError` for a model that could not be served.
    """
    found = model_inputs.of_frame(rows)
    wanted = {name: given.get(name, kind) for name, kind in found.items()}
    complete = rows.dropna()
    sklearn_model.save(
        estimator, wanted, (complete if len(complete) else rows).head(EXAMPLE_ROWS), folder, settings
    )
    model = sklearn_model.SklearnModel(estimator, Contract(settings, declaration, wanted))
    return _seal(settings, declaration, given, (sklearn_model.FLAVOUR, model), rows, folder)


def seal_pyfunc(
    settings: Settings, declaration: ModelDeclaration, given: Inputs, rows: "pd.DataFrame", folder: Path
) -> Tags:
    """Add the golden batch to an MLflow model, which runs its code; return the tags of its version."""
    wanted = model_inputs.signature(folder)
    model = pyfunc_model.load(folder, Contract(settings, declaration, wanted))
    return _seal(settings, declaration, given, (pyfunc_model.FLAVOUR, model), rows, folder)


def _seal(
    settings: Settings,
    declaration: ModelDeclaration,
    given: Inputs,
    original: tuple[str, Model],
    rows: "pd.DataFrame",
    folder: Path,
) -> Tags:
    """Write the original's golden batch, verify the saved model with it as scoring does, sign the folder."""
    flavour, model = original
    taken = rows.iloc[golden_batch.spread(len(rows))] if len(rows) else rows
    golden_batch.write(folder, model, model_inputs.columns_of(taken, model_inputs.signature(folder)))
    loading.open_folder(settings, declaration, given, flavour, folder)
    statement = signing.Statement(declaration.name, flavour, folder_digest.digest(folder))
    signature = signing.sign(settings, statement)
    signing.verify(settings, statement, signature)  # so that an untrusted key is found here, not in scoring
    values = (statement.digest, statement.flavour, signature)
    return dict(zip(mlflow_client.SIGNED_TAGS, values, strict=True))


def register(settings: Settings, model: str, folder: Path, tags: Mapping[str, str]) -> int:
    """Upload a sealed folder in a new MLflow run; return the new version."""
    client = mlflow_client.connect(settings)
    run = client.create_run(mlflow_client.experiment_id(client, model))
    client.log_artifacts(run.info.run_id, str(folder), FOLDER)
    version = create(client, model, run.info, tags)
    client.set_terminated(run.info.run_id)
    return version


def create(client: Any, model: str, run: Any, tags: Mapping[str, str]) -> int:
    """Register the files in a run's artifacts as a version; return its number."""
    mlflow_client.ensure_model(client, model)
    version = client.create_model_version(
        model,
        source=f"{run.artifact_uri}/{FOLDER}",
        run_id=run.run_id,
        tags=dict(tags),
        await_creation_for=0,
    )
    return int(version.version)
