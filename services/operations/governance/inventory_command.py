"""``driftline inventory``."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from cyclopts import Parameter

from services.model_registry import (
    ledger,
    model_card,
    model_card_store,
    models_topic,
    traffic_split,
    version_digest,
)
from services.model_registry.mlflow_client import RegistryError
from services.operations.governance import inventory as rows_of
from services.runtime import times
from services.runtime.command_output import failing_on, say
from services.runtime.declaration import ModelDeclaration
from services.runtime.declaration_file import DeclarationFolder
from services.runtime.kafka_consumers import MissingTopicError
from services.runtime.settings import Settings
from streams.outages import is_outage
from streams.records import LedgerEntry


def inventory(*, json: Annotated[bool, Parameter(negative="")] = False) -> None:
    """Show all models, declared or with arms: owner, risk, serving version, card, approvals, last review.

    Below the table is what somebody should do: a risk that nobody has judged, a version without an approval,
    a card that lacks a section, a review that is due.

    Args:
        json: Print one JSON document.
    """
    settings, now_ms = Settings(), times.now_ms()
    folder = DeclarationFolder(settings.models)
    with failing_on("driftline inventory", MissingTopicError):
        entries, latest = ledger.read(settings), models_topic.read(settings)
    serving = {name: traffic_split.champion_version(change.arms) for name, change in latest.items()}
    found = [
        rows_of.row(
            name,
            folder.valid.get(name),
            serving.get(name),
            entries,
            card_state(settings, folder.valid.get(name), serving.get(name)),
            now_ms,
            digest_of(settings, entries, name, serving.get(name)),
        )
        for name in rows_of.names(folder.valid, serving)
    ]
    if json:
        say(msgspec.json.encode({"models": found, "invalid": dict(folder.faults)}).decode())
        return
    say(*rows_of.lines(found), *(f"{name}: invalid: {fault}" for name, fault in folder.faults.items()))


def digest_of(
    settings: Settings, entries: Sequence[LedgerEntry], model: str, version: int | None
) -> str | None:
    """Return the digest of a version that a decision names; None if MLflow cannot be reached."""
    try:
        return "" if version is None else version_digest.of_decided(settings, entries, model, version)
    except Exception as error:
        if not is_outage(error):
            raise
        return None


def card_state(settings: Settings, declaration: ModelDeclaration | None, version: int | None) -> str:
    """Return the state of the stored card of a version: ``complete``, ``none``, or what is missing."""
    if declaration is None or version is None:
        return ""
    if declaration.learning is not None:
        return "complete" if not _missing_texts(declaration) else f"missing: {_missing_texts(declaration)}"
    try:
        found = model_card_store.stored(settings, declaration.name, version)
    except RegistryError as error:
        return f"unreadable: {error}"
    except Exception as error:
        if not is_outage(error):
            raise
        return f"unknown: MLflow at {settings.mlflow_uri} cannot be reached"
    if found is None:
        return "none"
    missing = ", ".join(model_card.missing_sections(found))
    return f"missing: {missing}" if missing else "complete"


def _missing_texts(declaration: ModelDeclaration) -> str:
    """Return the texts that people have not written; a version that learned online has no card."""
    keys = ("risk", "intended_use", "limitations", "ethical_considerations")
    return ", ".join(f"governance.{key}" for key in keys if not getattr(declaration.governance, key))
