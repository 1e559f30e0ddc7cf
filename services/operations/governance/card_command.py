"""``driftline models card``: make, store and show the card of a version."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from kafka.errors import KafkaError

from services.model_registry import (
    ledger,
    model_card,
    model_card_page,
    model_card_store,
    models_topic,
    traffic_split,
)
from services.model_registry.mlflow_client import RegistryError
from services.operations.models.arm_changes import ChangeError
from services.runtime import declaration_file, times
from services.runtime.command_output import fail, failing_on, ok, say, warn
from services.runtime.declaration import FILE, DeclarationError, ModelDeclaration
from services.runtime.kafka_consumers import MissingTopicError
from services.runtime.settings import Settings
from streams.outages import is_outage

COMMAND = "driftline models card"


def card(
    name: str,
    version: int | None = None,
    *,
    output: Path | None = None,
    store: bool = True,
    check: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Make the card of a version, store it with the version, and print it as Markdown.

    Args:
        name: Model.
        version: Its version; default: the champion.
        output: Write Markdown, HTML and JSON into this folder instead of printing.
        store: Whether the card is stored in MLflow, where the dashboard reads it.
        check: End with exit code 1 if a section is missing, or if the stored card is stale; store nothing.
    """
    settings = Settings()
    with (
        failing_on(COMMAND, ChangeError, DeclarationError, MissingTopicError, RegistryError),
        reachable(settings),
    ):
        declaration = declared(settings, name)
        chosen = serving(settings, name) if version is None else version
        entries = ledger.read(settings)
        made = model_card_store.make(settings, declaration, chosen, entries, now_ms=times.now_ms())
        if check:
            _check(settings, made)
            return
        if store:
            model_card_store.save(settings, made)
    if output is None:
        say(model_card_page.as_markdown(made))
    else:
        output.mkdir(parents=True, exist_ok=True)
        model_card_store.write(made, output)
        ok(f"{name} version {chosen}: card in {output}")
    for section in made.sections:
        if section.is_missing:
            warn(f"{section.title} is missing: {section.remedy}")


@contextlib.contextmanager
def reachable(settings: Settings) -> Iterator[None]:
    """Raise `RegistryError` where MLflow cannot be reached."""
    try:
        yield
    except Exception as error:
        if isinstance(error, KafkaError) or not is_outage(error):
            raise
        raise RegistryError(
            f"MLflow at {settings.mlflow_uri} cannot be reached: try 'driftline check --connect'"
        ) from error


def declared(settings: Settings, name: str) -> ModelDeclaration:
    """Return the declaration of a model; raise `DeclarationError` without one."""
    path = settings.models / name / FILE
    if not path.is_file():
        raise DeclarationError(f"there is no model {name!r}: {path} does not exist")
    return declaration_file.load(path)


def serving(settings: Settings, name: str) -> int:
    """Return the version that is the champion now; raise `ChangeError` without one."""
    latest = models_topic.read(settings).get(name)
    version = traffic_split.champion_version(latest.arms) if latest else None
    if version is None:
        raise ChangeError(f"{name} has no champion yet: name a version, see 'driftline models'")
    return version


def _check(settings: Settings, made: model_card.ModelCard) -> None:
    kept = model_card_store.stored(settings, made.model, made.version)
    faults = [f"{title} is missing" for title in model_card.missing_sections(made)]
    if kept is None:
        faults.append("no card is stored")
    else:
        faults += [f"{title} has changed since" for title in model_card.stale_sections(kept, made)]
    if faults:
        fail(f"{COMMAND}: {made.model} version {made.version}: {'; '.join(faults)}")
    ok(f"{made.model} version {made.version}: the card is complete and current")
