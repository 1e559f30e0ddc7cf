"""The card of a version in MLflow: made from its run, and kept as artifacts of the run."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from services.model_registry import (
    artifact_location,
    bounded_download,
    mlflow_client,
    model_card,
    model_card_page,
)
from services.model_registry.ledger_drafts import DATA_SET, GATE
from services.model_registry.mlflow_client import RegistryError
from services.model_registry.model_card import CardFacts, GateFact, ModelCard
from services.runtime import times
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import Settings
from streams.records import LedgerEntry

FOLDER = "card"
JSON_FILE, MARKDOWN_FILE, HTML_FILE = "model_card.json", "model_card.md", "model_card.html"
CARD_BYTES_MAX = 4 * bounded_download.MIB
_DATA_TAG = "driftline.data."
_decode = msgspec.json.Decoder(ModelCard).decode


def make(
    settings: Settings,
    declaration: ModelDeclaration,
    version: int,
    entries: Sequence[LedgerEntry],
    *,
    now_ms: int,
) -> ModelCard:
    """Return the card of a registered version as it would be made now; raises as `facts`."""
    found = facts(settings, declaration.name, version, entries)
    return model_card.build(declaration, found, entries, now_ms=now_ms)


def facts(settings: Settings, model: str, version: int, entries: Sequence[LedgerEntry]) -> CardFacts:
    """Return what the registry and the ledger know of a version.

    Raises:
        RegistryError: There is no such version.
        MlflowException: The registry cannot be reached.
    """
    client = mlflow_client.connect(settings)
    found = _version(client, model, version)
    run = client.get_run(found.run_id) if found.run_id else None
    return facts_of(version, found.tags, run, entries)


def facts_of(version: int, tags: Mapping[str, str], run: Any, entries: Sequence[LedgerEntry]) -> CardFacts:
    """Return the facts of a version.

    Args:
        version: Its number.
        tags: Of the version.
        run: Its MLflow run; None without one.
        entries: The ledger, with the gates and the data set of its retraining.
    """
    request_id = tags.get(mlflow_client.REQUEST_TAG, "")
    own = [entry for entry in entries if request_id and entry.request_id == request_id]
    run_tags: Mapping[str, str] = run.data.tags if run else {}
    data_set: dict[str, Any] = {}
    for entry in own:
        if entry.kind == DATA_SET:
            data_set |= entry.evidence
    code = {name: tags[name] for name in mlflow_client.SIGNED_TAGS if name in tags}
    code |= {name: value for name, value in run_tags.items() if name.startswith("driftline.code.")}
    return CardFacts(
        version=version,
        run_id=run.info.run_id if run else "",
        data=data_facts(run_tags, data_set),
        metrics=dict(run.data.metrics) if run else {},
        parameters=dict(run.data.params) if run else {},
        gates=[_gate(entry) for entry in own if entry.kind == GATE],
        code=code,
    )


def data_facts(run_tags: Mapping[str, str], data_set: Mapping[str, Any]) -> dict[str, str]:
    """Return what a card says of a training set.

    Args:
        run_tags: Of the MLflow run.
        data_set: Evidence of the ledger's entry; it counts where both have a value.
    """
    tagged = {
        name.removeprefix(_DATA_TAG): value for name, value in run_tags.items() if name.startswith(_DATA_TAG)
    }
    return {name: _readable(name, value) for name, value in (tagged | dict(data_set)).items()}


def save(settings: Settings, card: ModelCard) -> None:
    """Store a card as artifacts of its version's run, in place of an earlier one.

    Raises:
        RegistryError: There is no such version, or it has no run.
    """
    client = mlflow_client.connect(settings)
    run_id = _version(client, card.model, card.version).run_id
    if not run_id:
        raise RegistryError(
            f"{card.model} version {card.version} has no run, so its card cannot be stored: register it with "
            "'driftline models register'"
        )
    with tempfile.TemporaryDirectory(prefix="driftline-card-") as name:
        write(card, Path(name))
        client.log_artifacts(run_id, name, FOLDER)


def write(card: ModelCard, folder: Path) -> None:
    """Write a card into a folder: as JSON, Markdown and HTML."""
    for name, content in files(card).items():
        (folder / name).write_bytes(content)


def files(card: ModelCard) -> dict[str, bytes]:
    """Return the files of a card by name."""
    return {
        JSON_FILE: msgspec.json.encode(card),
        MARKDOWN_FILE: model_card_page.as_markdown(card).encode(),
        HTML_FILE: model_card_page.as_html(card).encode(),
    }


def stored(settings: Settings, model: str, version: int) -> ModelCard | None:
    """Return the stored card of a version; None if none was stored.

    Raises:
        RegistryError: There is no such version, or its card cannot be used.
    """
    client = mlflow_client.connect(settings)
    run_id = _version(client, model, version).run_id
    if not run_id or not any(
        found.path == f"{FOLDER}/{JSON_FILE}" for found in client.list_artifacts(run_id, FOLDER)
    ):
        return None
    source = client.get_run(run_id).info.artifact_uri
    try:
        artifact_location.check(source, client.tracking_uri)
        with tempfile.TemporaryDirectory(prefix="driftline-card-") as name:
            folder, file = Path(name), f"{FOLDER}/{JSON_FILE}"
            bounded_download.download(source, folder, client.tracking_uri, CARD_BYTES_MAX, file)
            card = _decode((folder / file).read_bytes())
            return msgspec.structs.replace(card, version=version)  # a retraining's has no number yet
    except (artifact_location.LocationError, bounded_download.SizeError, msgspec.MsgspecError) as error:
        raise RegistryError(
            f"the card of {model} version {version} cannot be used: {error}: make it again with "
            f"'driftline models card {model} {version}'"
        ) from error


def _version(client: Any, model: str, version: int) -> Any:
    from mlflow.exceptions import MlflowException  # late: imports MLflow, 3 s

    try:
        return client.get_model_version(model, str(version))
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise RegistryError(
            f"the registry has no {model} version {version}: see 'driftline models' for those it has"
        ) from error


def _gate(entry: LedgerEntry) -> GateFact:
    found = entry.evidence
    numbers = found.get("numbers")
    return GateFact(
        str(found.get("name", "")),
        str(found.get("outcome", "")),
        str(found.get("text", "")),
        {name: float(value) for name, value in numbers.items()} if isinstance(numbers, dict) else {},
    )


def _readable(name: str, value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value, order="deterministic").decode()
    return times.minute(int(text)) if name.endswith("_ms") and text.lstrip("-").isdecimal() else text
