"""Loading a registered version: its signature, files, inputs and golden batch are verified."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import structlog

from services.model_registry import (
    artifact_location,
    bounded_download,
    flavours,
    golden_batch,
    input_format,
    mlflow_client,
    model_inputs,
    signing,
)
from services.model_registry.artifact_location import LocationError
from services.model_registry.bounded_download import SizeError
from services.model_registry.contract import Contract, ContractError, LoadedVersion, Model
from services.model_registry.mlflow_client import RegistryError
from services.model_registry.model_inputs import Inputs
from services.model_registry.signed_tags import SignedTags
from services.model_registry.version_cache import TamperedError, VersionCache
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import Settings
from streams.outages import OutageError, is_outage

_log = structlog.get_logger()

ERROR_LENGTH = 300
"""Maximum length of an error of MLflow in the log: it may hold the page of a gateway."""
REGISTER_AGAIN = "register it again with 'driftline models register'"


@dataclasses.dataclass(frozen=True)
class RegisteredVersion:
    """A version as the registry has it, and the statement that its signature covers."""

    number: int
    registered: Any
    """MLflow's client; None if the registry is away and the tags are those kept on this machine."""
    tags: Mapping[str, str]
    statement: signing.Statement


def load(settings: Settings, declaration: ModelDeclaration, given: Inputs, version: int) -> Model:
    """Load one version of a model; blocks for about 100 ms.

    1. Verify the signature of its tags, before any of its files is read. While the registry is away, these
       are the tags that were kept on this machine when the version was loaded last.
    2. Verify the digest of its files, which are downloaded unless they are on this disk.
    3. Compare its inputs with those that are served.
    4. Load it with the loader of its flavour, which accepts trusted types only; compare it with the task.
    5. Compute its golden batch and compare the outputs, which also warms it.

    Raises `RegistryError`, whose message names the version, the fault and the remedy; and `OutageError` if
    the registry is away (see `services.model_registry.mlflow_client.REQUEST_SECONDS_MAX`) and the version is
    not on this machine.
    """
    return load_found(settings, declaration, given, find(settings, declaration.name, version)).model


def find(settings: Settings, model: str, version: int) -> RegisteredVersion:
    """Do the first step of `load`."""
    registered, tags = _tags(settings, model, version)
    try:
        return RegisteredVersion(version, registered, tags, statement_of(settings, model, tags))
    except signing.SigningError as error:
        raise RegistryError(f"{model} version {version}: {error}") from error


def _tags(settings: Settings, model: str, version: int) -> tuple[Any, Mapping[str, str]]:
    """Return the version in the registry and its tags; while the registry is away, the tags kept here."""
    try:
        registered = mlflow_client.connect(settings).get_model_version(model, str(version))
    except Exception as error:
        if not is_outage(error):
            raise
        tags = SignedTags(settings.home, model).read(version)
        if tags is None:
            raise _away(settings, model, version) from error
        _log.warning("version.registry_away", model=model, version=version, error=repr(error)[:ERROR_LENGTH])
        return None, tags
    return registered, registered.tags


def _away(settings: Settings, model: str, version: int) -> OutageError:
    return OutageError(
        f"{model} version {version}: the model registry at {settings.mlflow_uri} cannot be reached, and "
        "this machine has no verified copy of the version: check whether MLflow is up"
    )


def load_found(
    settings: Settings, declaration: ModelDeclaration, given: Inputs, found: RegisteredVersion
) -> LoadedVersion:
    """Do the other steps of `load`."""
    try:
        with opened_files(settings, declaration.name, found) as folder:
            loaded = open_folder(settings, declaration, given, found.statement.flavour, folder)
    except (model_inputs.InputsError, ContractError, golden_batch.GoldenError) as error:
        raise RegistryError(f"{declaration.name} version {found.number}: {error}") from error
    SignedTags(settings.home, declaration.name).keep(found.number, found.tags)
    return loaded


@contextlib.contextmanager
def opened_files(settings: Settings, model: str, found: RegisteredVersion) -> Iterator[Path]:
    """Yield the folder of a version's files, verified; they are downloaded unless they are on this disk.

    Raises `RegistryError`, and `OutageError` as `load`.
    """

    def download(folder: Path) -> Path:
        if found.registered is None:
            raise _away(settings, model, found.number)
        return _download(settings, found.registered, folder)

    store = VersionCache(settings.home, settings.model_store_mib_max << 20)
    try:
        with store.opened(found.statement.digest, download) as folder:
            yield folder
    except TamperedError as error:
        raise RegistryError(
            f"{model} version {found.number}: {error}: its files were changed after it was registered; "
            f"find out who changed them, then {REGISTER_AGAIN}"
        ) from error
    except (LocationError, SizeError) as error:
        raise RegistryError(f"{model} version {found.number}: {error}") from error


def open_folder(
    settings: Settings, declaration: ModelDeclaration, given: Inputs, flavour: str, folder: Path
) -> LoadedVersion:
    """Load the model in a folder whose digest is verified, and verify its golden batch."""
    wanted = model_inputs.signature(folder)
    model_inputs.check(wanted, given)
    kinds = {name: given[name] for name in wanted}
    formats = input_format.read(folder, wanted)
    model = flavours.load(flavour, folder, Contract(settings, declaration, wanted, formats))
    batch = golden_batch.read(folder, kinds)
    golden_batch.verify(batch, model)
    return LoadedVersion(model, batch)


def statement_of(settings: Settings, model: str, tags: Mapping[str, str]) -> signing.Statement:
    """Return the statement in a version's tags; raise `SigningError` unless its signature is valid."""
    absent = [tag for tag in mlflow_client.SIGNED_TAGS if tag not in tags]
    if absent:
        raise signing.SigningError(
            f"it is not signed: the tag {', '.join(absent)} is missing; {REGISTER_AGAIN}"
        )
    digest, flavour, signature = (tags[tag] for tag in mlflow_client.SIGNED_TAGS)
    statement = signing.Statement(model=model, flavour=flavour, digest=digest)
    signing.verify(settings, statement, signature)
    return statement


def _download(settings: Settings, registered: Any, folder: Path) -> Path:
    """Download a version's files from their artifact URI; a ``models:/`` URI would add a file to them.

    Raises `LocationError` for a URI from which nothing is downloaded, `SizeError` for too large files.
    """
    client = mlflow_client.connect(settings)
    source = client.get_model_version_download_uri(registered.name, registered.version)
    artifact_location.check(source, settings.mlflow_uri)
    files = folder / "files"
    files.mkdir()
    return bounded_download.download(
        source, files, client.tracking_uri, settings.model_version_mib_max * bounded_download.MIB
    )
