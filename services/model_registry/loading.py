"""From a version's number to a model that has proved itself."""

import dataclasses
from pathlib import Path
from typing import Any

from services.model_registry import flavours, golden_batch, mlflow_client, model_inputs, signing
from services.model_registry.contract import Contract, ContractError, Model
from services.model_registry.mlflow_client import RegistryError
from services.model_registry.model_inputs import Inputs
from services.model_registry.version_cache import Store, TamperedError
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import Settings

AGAIN = "register it again with 'driftline models register'"


@dataclasses.dataclass(frozen=True)
class Found:
    """A version as the registry has it, and what its signature vouches for."""

    number: int
    registered: Any
    statement: signing.Statement


@dataclasses.dataclass(frozen=True)
class Proved:
    """A model, and what it has proved itself by."""

    model: Model
    proof: golden_batch.Proof


def load(settings: Settings, declaration: ModelDeclaration, given: Inputs, version: int) -> Model:
    """Load one version of a model; blocks for some 100 ms.

    1. Verify the signature of its tags, before anything of it is read.
    2. Verify the digest of its files, which are downloaded if they are not on this disk.
    3. Compare its inputs with what is served.
    4. Load it as its flavour is loaded, within the types that are trusted; compare it with the task.
    5. Have it answer its golden batch, which also warms it.

    Raises `RegistryError` that names the version, what is wrong and what to do; and what MLflow raises when
    the registry does not answer: see `services.model_registry.mlflow_client.REQUEST_SECONDS_MAX`.
    """
    return load_found(settings, declaration, given, find(settings, declaration.name, version)).model


def find(settings: Settings, model: str, version: int) -> Found:
    """Take the first step of `load`."""
    registered = mlflow_client.connect(settings).get_model_version(model, str(version))
    try:
        return Found(version, registered, statement_of(settings, model, registered.tags))
    except signing.SigningError as error:
        raise RegistryError(f"{model} version {version}: {error}") from error


def load_found(settings: Settings, declaration: ModelDeclaration, given: Inputs, found: Found) -> Proved:
    """Take all further steps of `load`."""
    version = found.number
    client = mlflow_client.connect(settings)
    try:
        store = Store(settings.home, settings.model_store_mib_max << 20)
        digest = found.statement.digest
        with store.opened(digest, lambda folder: _download(client, found.registered, folder)) as folder:
            return open_folder(settings, declaration, given, found.statement.flavour, folder)
    except TamperedError as error:
        raise RegistryError(
            f"{declaration.name} version {version}: {error}; its files were changed after it was "
            f"registered: find out by whom, then {AGAIN}"
        ) from error
    except (model_inputs.InputsError, ContractError, golden_batch.GoldenError) as error:
        raise RegistryError(f"{declaration.name} version {version}: {error}") from error


def open_folder(
    settings: Settings, declaration: ModelDeclaration, given: Inputs, flavour: str, folder: Path
) -> Proved:
    """Load what is in a folder that is what it should be, and have it prove itself."""
    wanted = model_inputs.signature(folder)
    model_inputs.check(wanted, given)
    model = flavours.load(flavour, folder, Contract(settings, declaration, wanted))
    proof = golden_batch.read(folder, wanted)
    golden_batch.prove(proof, model)
    return Proved(model, proof)


def statement_of(settings: Settings, model: str, tags: dict[str, str]) -> signing.Statement:
    """Return what a version's tags state, if their signature holds."""
    absent = [tag for tag in mlflow_client.SIGNED_TAGS if tag not in tags]
    if absent:
        raise signing.SigningError(f"it is not signed: it has no tag {', '.join(absent)}; {AGAIN}")
    digest, flavour, signature = (tags[tag] for tag in mlflow_client.SIGNED_TAGS)
    statement = signing.Statement(model=model, flavour=flavour, digest=digest)
    signing.verify(settings, statement, signature)
    return statement


def _download(client: Any, registered: Any, folder: Path) -> Path:
    """Fetch a version's files from where they are, not as ``models:/``, which adds a file of its own."""
    import mlflow.artifacts

    source = client.get_model_version_download_uri(registered.name, registered.version)
    return Path(
        mlflow.artifacts.download_artifacts(
            artifact_uri=source, dst_path=str(folder), tracking_uri=client.tracking_uri
        )
    )
