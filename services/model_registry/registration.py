"""Making a version: saved in our form, proved, signed, and only then told to the registry."""

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
FOLDER = "model"
"""Of a version's files among the artifacts of its run."""

Tags = dict[str, str]


def seal_estimator(
    settings: Settings,
    declaration: ModelDeclaration,
    given: Inputs,
    estimator: Any,
    rows: "pd.DataFrame",
    folder: Path,
) -> Tags:
    """Save a scikit-learn estimator into a folder that is new; return the tags that its version needs.

    Args:
        settings: Where the signing key is, and which types are trusted.
        declaration: Of the model.
        given: What the model is given when it serves.
        estimator: The fitted estimator; it answers the golden batch itself.
        rows: Inputs as the model gets them, with its columns in order; some of them become the batch.
        folder: The version's files.

    Raises `InputsError`, `ContractError` or `GoldenError` for what could not be served.
    """
    own = model_inputs.of_frame(rows)
    wanted = {name: given.get(name, kind) for name, kind in own.items()}
    complete = rows.dropna()
    sklearn_model.save(
        estimator, wanted, (complete if len(complete) else rows).head(EXAMPLE_ROWS), folder, settings
    )
    model = sklearn_model.SklearnModel(estimator, Contract(settings, declaration, wanted))
    return _seal(settings, declaration, given, (sklearn_model.FLAVOUR, model), rows, folder)


def seal_pyfunc(
    settings: Settings, declaration: ModelDeclaration, given: Inputs, rows: "pd.DataFrame", folder: Path
) -> Tags:
    """Complete a folder with an MLflow model, whose code is run; return the tags that its version needs."""
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
    """Let the original answer the golden batch, the saved one repeat it as in scoring; sign the folder."""
    flavour, model = original
    taken = rows.iloc[golden_batch.spread(len(rows))] if len(rows) else rows
    golden_batch.write(folder, model, model_inputs.columns_of(taken, model_inputs.signature(folder)))
    loading.open_folder(settings, declaration, given, flavour, folder)
    statement = signing.Statement(declaration.name, flavour, folder_digest.digest(folder))
    signature = signing.sign(settings, statement)
    signing.verify(settings, statement, signature)  # lest scoring be the first to find its key unknown
    values = (statement.digest, statement.flavour, signature)
    return dict(zip(mlflow_client.SIGNED_TAGS, values, strict=True))


def register(settings: Settings, model: str, folder: Path, tags: Mapping[str, str]) -> int:
    """Upload a sealed folder in a run of its own; return the new version."""
    client = mlflow_client.connect(settings)
    run = client.create_run(mlflow_client.experiment_id(client, model))
    client.log_artifacts(run.info.run_id, str(folder), FOLDER)
    version = create(client, model, run.info, tags)
    client.set_terminated(run.info.run_id)
    return version


def create(client: Any, model: str, run: Any, tags: Mapping[str, str]) -> int:
    """Tell the registry of the files that a run holds; return the new version."""
    mlflow_client.ensure_model(client, model)
    version = client.create_model_version(
        model,
        source=f"{run.artifact_uri}/{FOLDER}",
        run_id=run.run_id,
        tags=dict(tags),
        await_creation_for=0,
    )
    return int(version.version)
