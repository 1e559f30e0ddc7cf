"""``driftline models`` lists the registered versions; ``driftline models register`` adds one."""

import tempfile
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from services.feature_store.plan import PlanError
from services.model_registry import (
    loading,
    mlflow_client,
    model_import,
    model_inputs,
    registration,
    signing,
)
from services.model_registry.contract import ContractError
from services.model_registry.golden_batch import GoldenError
from services.model_registry.mlflow_client import RegistryError
from services.model_registry.signing import SigningError
from services.runtime.command_output import fail, ok, say
from services.runtime.declaration import DeclarationError, ModelDeclaration
from services.runtime.declaration_file import load_all
from services.runtime.settings import Settings


def models() -> None:
    """List the registered versions of the declared models, with flavour, aliases and signature."""
    settings, declarations = _installation()
    client = mlflow_client.connect(settings)
    for name in declarations:
        found = client.search_model_versions(f"name='{name}'")
        if not found:
            say(f"{name}: no registered version")
        for version in sorted(found, key=lambda each: int(each.version)):
            try:
                state = f"signed, {loading.statement_of(settings, name, version.tags).flavour}"
            except signing.SigningError as error:
                state = f"refused: {error}"
            aliases = "".join(f" ({alias})" for alias in version.aliases)
            say(f"{name} version {version.version}{aliases}: {state}")


def register(
    name: str,
    *,
    model_uri: str,
    rows: Path | None = None,
    allow_pickle: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Verify a model that was trained elsewhere, sign it, and register it as a version.

    The version scores no requests until it is an arm: see driftline models champion, share and shadow.

    Args:
        name: Declared model.
        model_uri: An MLflow model (runs:/..., models:/... or a folder), or a .skops, .pkl or .joblib file.
        rows: Inputs (.parquet or .csv) as the model was trained on, with the types and the missing values
            that they had there: the version must repeat the model's scores of them. Default: the input
            example that was saved with the MLflow model.
        allow_pickle: Read a pickle, which runs its code on this machine. The version is saved without a
            pickle, unless it is a pyfunc model of a trusted team.
    """
    settings, declarations = _installation()
    if name not in declarations:
        fail(f"there is no model {name!r}; declared models: {', '.join(declarations)}")
    try:
        with tempfile.TemporaryDirectory(prefix="driftline-register-") as work:
            folder = Path(work) / registration.FOLDER
            given = model_inputs.of_model(settings, declarations[name])
            source = model_import.ImportSource(settings, model_uri, rows, allow_pickle=allow_pickle)
            tags = model_import.seal(source, declarations[name], given, folder)
            version = registration.register(settings, name, folder, tags)
    except (
        ContractError,
        GoldenError,
        model_inputs.InputsError,
        PlanError,
        RegistryError,
        SigningError,
    ) as error:
        fail(f"{name} was not registered: {error}")
    ok(f"registered {name} version {version}")


def _installation() -> tuple[Settings, dict[str, ModelDeclaration]]:
    settings = Settings()
    try:
        return settings, load_all(settings.models)
    except DeclarationError as error:
        fail(str(error))
