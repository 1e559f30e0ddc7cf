"""``driftline models rollout`` requests the rollout of a version; ``driftline rollback`` puts one back."""

import contextlib
from typing import Annotated

import msgspec
from cyclopts import Parameter

from services.model_registry import ledger, ledger_drafts, mlflow_client, models_topic
from services.model_registry.ledger import LedgerError
from services.model_registry.ledger_chain import EntryDraft
from services.model_registry.models_topic import OvertakenError
from services.model_registry.traffic_split import CHAMPION, ShareError
from services.operations.models import arm_changes, champion_reference
from services.operations.models.arm_changes import ChangeError
from services.operations.models.arms_command import From, publish_recorded
from services.operations.models.rollout_reports import lines_of
from services.operations.models.version_check import check_version
from services.runtime import declaration_file, kafka_consumers, kafka_producers, times
from services.runtime.command_output import failing_on, ok, say
from services.runtime.declaration import FILE, DeclarationError
from services.runtime.kafka_consumers import MissingTopicError
from services.runtime.settings import Settings
from streams import records, topics
from streams.cloud_events import Envelope
from streams.outages import is_outage
from streams.records import ModelChanged, RolloutRecord, RolloutRequested

By = Annotated[str | None, Parameter(name="--by")]


def rollout(name: str, version: int, *, reason: str = "requested by hand", by: By = None) -> None:
    """Request the rollout of a registered version: shadow, canary shares, champion, as model.yaml declares.

    Args:
        name: Model.
        version: Version that is to become the champion.
        reason: Why, for the ledger and the reason of each change of the arms.
        by: Who requests it; default: the user of the operating system.
    """
    settings = Settings()
    with _errors_reported("driftline models"):
        declared = declaration_file.load_named(settings.models / name / FILE)
        if not declared.rollout.steps:
            raise ChangeError(
                f"{name} declares no rollout.steps in model.yaml: add them, or use 'driftline models "
                "champion'"
            )
        check_version(settings, name, version)
        request = RolloutRequested(
            request_id=ledger.command_id(),
            model=name,
            version=version,
            requested_at_ms=times.now_ms(),
            reason=reason,
            actor=ledger.operator(by),
        )
        draft = _draft("rollout_request", request.request_id, name, version, request.actor, reason)
        ledger.append(settings, [draft])
        _write(settings, request)
        ok(f"requested the rollout of {name} version {version} ({request.request_id})")


def rollback(
    name: str,
    *,
    version: int | None = None,
    since: From = None,
    reason: str = "rolled back by hand",
    by: By = None,
) -> None:
    """Give all keys of a running rollout back to the champion; without one, make the version before champion.

    It takes effect at once, without the rollout process; a running rollout ends with the reason. Then no
    learned version becomes the champion until 'driftline models release'; learning goes on.

    Args:
        name: Model.
        version: Version that is to be the champion; default: the one before.
        since: Only requests of this event time or later, in RFC 3339; default: now.
        reason: Why, for the ledger and the reason of the change.
        by: Who does it; default: the user of the operating system.
    """
    settings, at_ms = Settings(), times.now_ms()
    with _errors_reported("driftline rollback"):
        actor = ledger.operator(by)
        with ledger.opened(settings) as entries, models_topic.opened(settings) as models:
            latest = models.latest.get(name)
            if latest is None:
                raise ChangeError(f"{name} has no arms yet: there is nothing to roll back")
            from_ms = at_ms if since is None else arm_changes.parse_time_ms(since)
            back = _target(settings, latest) if version is None else version
            if back not in _champions(latest):  # these have been loaded; others must be in the registry
                check_version(settings, name, back)

            def make(latest: ModelChanged | None) -> list[ModelChanged]:
                change = latest and _rolled_back(latest, back, f"by hand: {reason}", (from_ms, at_ms))
                return [_with_reference(settings, change, back)] if change else []

            publish_recorded(entries, models, name, make, actor=actor, at_ms=at_ms)
            entries.append(_draft(ledger_drafts.ROLLBACK, ledger.command_id(), name, back, actor, reason))
            latest = models.latest[name]
        say(f"{name}: ok ", *(f"  {line}" for line in arm_changes.format_arms(latest.arms)))
        if arm_changes.is_held(latest):
            say(f"  {arm_changes.HELD_HINT} {name}'")


def release(name: str, *, since: From = None, reason: str = "released by hand", by: By = None) -> None:
    """Let learned versions of a model become the champion again, after a rollback of one.

    The newest version that passed its gate follows with the next checkpoint of the learning process.

    Args:
        name: Model.
        since: Event time from which learned versions answer, in RFC 3339; default: now.
        reason: Why, for the ledger and the reason of the change.
        by: Who does it; default: the user of the operating system.
    """
    settings, at_ms = Settings(), times.now_ms()
    with _errors_reported("driftline models"):
        actor = ledger.operator(by)
        from_ms = at_ms if since is None else arm_changes.parse_time_ms(since)
        with ledger.opened(settings) as entries, models_topic.opened(settings) as models:

            def make(latest: ModelChanged | None) -> list[ModelChanged]:
                return [arm_changes.released(name, latest, reason, from_ms=from_ms, now_ms=at_ms)]

            (change,) = publish_recorded(entries, models, name, make, actor=actor, at_ms=at_ms)
        say(f"{name}: ok ", *(f"  {line}" for line in arm_changes.format_arms(change.arms)))


def show(name: str) -> None:
    """Show the rollouts of a model, with the evidence of each decision.

    Args:
        name: Model.
    """
    settings = Settings()
    decode = records.decoder_of(records.RolloutRecord).decode
    with _errors_reported("driftline models"):
        found: list[RolloutRecord] = [
            record
            for message in kafka_consumers.read_topic(settings, "rollouts", topics.ROLLOUTS.name)
            if message.value is not None and (record := decode(message.value)).model == name
        ]
        if not found:
            raise ChangeError(f"{name} has had no rollout: request one with 'driftline models rollout'")
        for record in found:
            say(*lines_of(record))


def _target(settings: Settings, latest: ModelChanged) -> int:
    """Return the version that a rollback lets answer: the champion of a canary, or else the previous one."""
    if arm_changes.answering(latest.arms, mlflow_client.CHALLENGER):
        return _champions(latest)[-1]
    return _previous(settings, latest)


def _rolled_back(
    latest: ModelChanged, back: int, reason: str, times_ms: tuple[int, int]
) -> ModelChanged | None:
    """Return the change that makes a version answer; None if it does, as when a rollout has just ended.

    Args:
        latest: The latest change of the model.
        back: Version that is to answer.
        reason: Why, in the record.
        times_ms: The event time from which it is in effect, and now.
    """
    from_ms, now_ms = times_ms
    if back != _champions(latest)[-1]:
        arms = arm_changes.with_champion(latest.arms, back, from_ms=from_ms, now_ms=now_ms)
    elif arm_changes.answering(latest.arms, mlflow_client.CHALLENGER):
        arms = arm_changes.without_arm(latest.arms, mlflow_client.CHALLENGER, from_ms=from_ms)
        return arm_changes.make_change(
            latest.model, latest, arms, reason=reason, from_ms=from_ms, now_ms=now_ms
        )
    elif arm_changes.held(latest) == latest:
        return None
    else:
        arms = latest.arms
    latest = arm_changes.held(latest)
    return arm_changes.make_change(latest.model, latest, arms, reason=reason, from_ms=from_ms, now_ms=now_ms)


def _with_reference(settings: Settings, change: ModelChanged, version: int) -> ModelChanged:
    """Return a change with the reference of the champion; a registry that is away delays no rollback."""
    if champion_reference.is_known(change, version):
        return change
    try:
        known = champion_reference.of_version(settings, change.model, version)
        return champion_reference.with_reference(settings, change, known)
    except Exception as error:
        if not is_outage(error):
            raise
        say(f"the reference of version {version} is not used, because the registry is away: {error!r}")
        return change


def _champions(latest: ModelChanged) -> list[int]:
    """Return the versions of the champions, in the order in which they answer."""
    champions = [arm for arm in latest.arms if arm.name == CHAMPION and not arm.segment and not arm.shadow]
    return [arm.version for arm in sorted(champions, key=lambda arm: arm.effective_from_ms)]


def _previous(settings: Settings, latest: ModelChanged) -> int:
    """Return the version before the champion, of the arms or of MLflow's alias."""
    champions = _champions(latest)
    before = [version for version in champions if version != champions[-1]]
    if before:
        return before[-1]
    client = mlflow_client.connect(settings)
    found = mlflow_client.version_of(client, latest.model, mlflow_client.PREVIOUS)
    if found is None or found == champions[-1]:
        raise ChangeError(
            f"{latest.model} has no version before the champion (MLflow's alias {mlflow_client.PREVIOUS} is "
            "not set): name one with --version; 'driftline models' lists them"
        )
    return found


def _draft(kind: str, request_id: str, model: str, version: int, actor: str, reason: str) -> EntryDraft:
    return EntryDraft(
        kind=kind,
        model=model,
        version=version,
        request_id=request_id,
        actor=actor,
        at_ms=times.now_ms(),
        evidence={"reason": reason},
    )


def _write(settings: Settings, request: RolloutRequested) -> None:
    headers = Envelope("models", request.model, enabled=settings.cloud_events != "none").headers(request)
    with kafka_producers.connected(settings) as producer:
        producer.send(topics.ROLLOUTS.name, request.model.encode(), records.encode(request), headers)


def _errors_reported(command: str) -> contextlib.AbstractContextManager[None]:
    return failing_on(
        command,
        ChangeError,
        DeclarationError,
        LedgerError,
        MissingTopicError,
        OvertakenError,
        ShareError,
        msgspec.ValidationError,
    )
