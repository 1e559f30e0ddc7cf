"""``driftline models`` lists the registered versions; ``driftline models register`` adds one."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from services.feature_store.plan import PlanError
from services.model_registry import (
    ledger,
    ledger_drafts,
    loading,
    mlflow_client,
    model_import,
    model_inputs,
    reference_rows,
    registration,
    signing,
)
from services.model_registry.contract import ContractError
from services.model_registry.golden_batch import GoldenError
from services.model_registry.ledger import LedgerError
from services.model_registry.mlflow_client import RegistryError
from services.model_registry.reference_rows import ReferenceFileError, ReferenceRows
from services.model_registry.signing import SigningError
from services.runtime import times
from services.runtime.command_output import fail, failing_on, ok, say
from services.runtime.declaration import DeclarationError, ModelDeclaration
from services.runtime.declaration_file import load_all
from services.runtime.kafka_consumers import MissingTopicError
from services.runtime.settings import Settings

NO_REFERENCE = (
    "no reference: drift of features, scores, segments and relations is not watched for this version; "
    "register it with --reference to watch it"
)

_ERRORS = (
    ContractError,
    GoldenError,
    model_inputs.InputsError,
    PlanError,
    ReferenceFileError,
    RegistryError,
    SigningError,
)


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
            say(f"{name} version {version.version}{aliases}: {state}{_of_reference(version.tags)}")


def _of_reference(tags: Mapping[str, str]) -> str:
    """Return what a version's tags tell of its reference; those of older versions tell nothing."""
    found = tags.get(mlflow_client.REFERENCE_TAG)
    return "" if found is None else ", with a reference" if found == "yes" else ", no reference"


def register(
    name: str,
    *,
    model_uri: str,
    rows: Path | None = None,
    reference: Path | None = None,
    allow_pickle: Annotated[bool, Parameter(negative="")] = False,
    by: str | None = None,
) -> None:
    """Verify a model that was trained elsewhere, sign it, and register it as a version.

    The version scores no requests until it is an arm: see driftline models champion, share and shadow.

    Args:
        name: Declared model.
        model_uri: An MLflow model (runs:/..., models:/... or a folder), or a .skops, .pkl or .joblib file.
        rows: Inputs (.parquet or .csv) as the model was trained on, with the types and the missing values
            that they had there: the version must repeat the model's scores of them. Default: the input
            example that was saved with the MLflow model.
        reference: Rows (.parquet or .csv) that drift compares live rows with, as the model is given them: a
            column for each feature, and if there are some the labels and the event times, named as in
            model.yaml. The version scores them itself. Give consecutive rows that it was not trained on.
        allow_pickle: Read a pickle, which runs its code on this machine. The version is saved without a
            pickle, unless it is a pyfunc model of a trusted team.
        by: Person who registers it, for the ledger; default: the user of this machine.
    """
    settings, declarations = _installation()
    if name not in declarations:
        fail(f"there is no model {name!r}; declared models: {', '.join(declarations)}")
    known: ReferenceRows | None = None
    with (
        failing_on("driftline models register", LedgerError, MissingTopicError),
        ledger.opened(settings) as entries,  # first: without it nothing is registered
    ):
        actor = ledger.operator(by)
        try:
            with tempfile.TemporaryDirectory(prefix="driftline-register-") as work:
                folder = Path(work) / registration.FOLDER
                given = model_inputs.of_model(settings, declarations[name])
                if reference is not None:
                    known = reference_rows.read(reference, declarations[name], given)
                make = None if known is None else known.make
                source = model_import.ImportSource(settings, model_uri, rows, make, allow_pickle=allow_pickle)
                tags = model_import.seal(source, declarations[name], given, folder)
                version = registration.register(settings, name, folder, tags)
        except _ERRORS as error:
            fail(f"{name} was not registered: {error}")
        evidence = {"source": model_uri, "reference": known is not None, **tags}
        entries.append(
            ledger_drafts.of_registration(name, version, evidence, actor=actor, at_ms=times.now_ms())
        )
    ok(f"registered {name} version {version}")
    say(NO_REFERENCE if known is None else f"reference: {known.summary()}")


def _installation() -> tuple[Settings, dict[str, ModelDeclaration]]:
    settings = Settings()
    try:
        return settings, load_all(settings.models)
    except DeclarationError as error:
        fail(str(error))
