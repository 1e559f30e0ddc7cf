"""``driftline erase``."""

import functools
from typing import Annotated

from cyclopts import Parameter

from services.feature_store import repository
from services.feature_store.plan import PlanError
from services.model_registry import ledger
from services.model_registry.ledger import LedgerError
from services.operations.erasure import kafka_holdings, online_rows, subject
from services.operations.erasure.places import World
from services.operations.erasure.record_matcher import RecordMatcher, decoders
from services.operations.erasure.report import lines
from services.operations.erasure.run import Act, ErasureReport, run
from services.operations.erasure.subject import ErasureError
from services.runtime import declaration_file, schema_registry_client
from services.runtime.command_output import fail, failing_on, ok, say
from services.runtime.declaration import DeclarationError
from services.runtime.kafka_consumers import MissingTopicError
from services.runtime.settings import Settings
from services.runtime.topic_creation import ensure_topics
from streams import registered_codec
from streams.codec import SchemaError

COMMAND = "driftline erase"


def erase(
    *entity_value: str,
    reason: str = "",
    by: str | None = None,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    wait_seconds: float = 120.0,
) -> None:
    """Remove all data of one subject: online store, archive, dead letters, files; say what Kafka still holds.

    It may be run again at any time: it continues what was interrupted, and removes what has come since.

    Args:
        entity_value: Entity of the Feast repository and its value; several for a subject of several entities.
        reason: Why, for the ledger.
        by: Who erases, for the ledger; default: the user of this machine.
        dry_run: Only show what would be removed.
        wait_seconds: Maximum wait for features and the archive to pass the records from before.
    """
    settings = Settings()
    with failing_on(
        COMMAND, ErasureError, PlanError, DeclarationError, LedgerError, MissingTopicError, SchemaError
    ):
        actor = ledger.operator(by)
        if not dry_run and not reason.strip():
            raise ErasureError("the ledger needs to know why: give --reason TEXT")
        act = Act(actor, reason.strip(), dry_run, wait_seconds)
        _say(_run(settings, entity_value, act), act)


def _run(settings: Settings, words: tuple[str, ...], act: Act) -> ErasureReport:
    plan = repository.load(settings)
    chosen = subject.of(plan, words)
    models = declaration_file.load_all(settings.models)
    registry = schema_registry_client.connect(settings)
    decoder_of = functools.partial(registered_codec.decoder_of, registry=registry)
    matcher = RecordMatcher(chosen, plan, models, decoders(plan, models, decoder_of))
    if not act.dry_run:
        ensure_topics(settings, {})
    with kafka_holdings.connected(settings) as holdings, online_rows.connected(settings) as client:
        return run(World(settings, plan, models, chosen, matcher, holdings, client), act)


def _say(report: ErasureReport, act: Act) -> None:
    if not report.found and not report.known:
        fail(
            f"{COMMAND}: nothing of this subject was found: check entity and value, and whether the settings "
            "name the servers that hold its data"
        )
    say(*lines(report, dry_run=act.dry_run))
    if report.unfinished:
        fail(*(f"{COMMAND}: not finished: {each}" for each in report.unfinished))
    if act.dry_run:
        ok("nothing was changed")
    elif report.found or report.resumed:
        ok(f"erased; the ledger has it as {report.erasure_id}: driftline ledger list --kind erasure")
    else:
        ok("nothing is left to erase")
