"""``driftline models list``, ``champion``, ``share``, ``shadow`` and ``end``."""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import Annotated

from cyclopts import Parameter

from services.model_registry import approvals, ledger, ledger_drafts, models_topic, version_digest
from services.model_registry.ledger import Ledger, LedgerError
from services.model_registry.models_topic import MakeChanges, ModelsTopic, OvertakenError
from services.model_registry.traffic_split import ShareError
from services.operations.models import arm_changes, champion_reference
from services.operations.models.arm_changes import ChangeError
from services.operations.models.version_check import check_version
from services.runtime import declaration_file, times
from services.runtime.command_output import fail, failing_on, say
from services.runtime.declaration import FILE, DeclarationError
from services.runtime.kafka_consumers import MissingTopicError
from services.runtime.settings import Settings
from streams.records import Arm, ModelChanged

DryRun = Annotated[bool, Parameter(negative="")]
NO_REFERENCE = (
    "no reference: this version was registered without one, so drift of features, scores, segments and "
    "relations is not watched while it is the champion"
)

From = Annotated[str | None, Parameter(name="--from")]
ChangeArms = Callable[[Sequence[Arm], int | None, int], list[Arm]]
"""Returns the new arms for the arms, the start of the change as given, and the current time, both in ms."""


def show(name: str | None = None) -> None:
    """Show the arms of each model with their versions and shares, and the shadows.

    Args:
        name: Model; default: all.
    """
    with _errors_reported():
        latest = models_topic.read(Settings())
        for model in sorted(latest) if name is None else [name]:
            if model not in latest:
                raise ChangeError(
                    f"{model} has no arms yet; models with arms: {', '.join(sorted(latest)) or 'none'}"
                )
            _print_arms(f"{model}: {latest[model].reason}", latest[model].arms)
            if arm_changes.is_held(latest[model]):
                say(f"  {arm_changes.HELD_HINT} {model}'")


def share(
    name: str,
    arm: str,
    *,
    version: int,
    share: str,
    segment: Annotated[list[str] | None, Parameter(negative="")] = None,
    since: From = None,
    by: str | None = None,
    dry_run: DryRun = False,
) -> None:
    """Set the share of the keys that a challenger scores; the champion gives it, or gets it back.

    Args:
        name: Model.
        arm: Challenger; a new name adds one.
        version: Version that the arm scores with.
        share: Share in units of 1/10,000, such as 500, or in percent, such as 5%.
        segment: Only requests with one of these values, such as carrier=UA,AA; repeat it for further fields.
        since: Only requests of this event time or later, in RFC 3339; default: now.
        by: Person who acts, for the ledger; default: the user of this machine.
        dry_run: Show the resulting arms, but write nothing.
    """

    def changed(arms: Sequence[Arm], from_ms: int | None, now_ms: int) -> list[Arm]:
        declaration = declaration_file.load_named(Settings().models / name / FILE) if segment else None
        return arm_changes.with_share(
            arms,
            arm,
            version,
            arm_changes.parse_share(share),
            from_ms=now_ms if from_ms is None else from_ms,
            segment=arm_changes.parse_segment(declaration, segment or ()) if declaration else {},
        )

    act = _Act(name, f"{arm} gets {share}", version, since, by, dry_run, answers=True)
    _change(act, changed)


def champion(
    name: str, *, version: int, since: From = None, by: str | None = None, dry_run: DryRun = False
) -> None:
    """Make a version the champion: it scores all requests that no challenger scores.

    Args:
        name: Model.
        version: Version of the new champion.
        since: Only requests of this event time or later, in RFC 3339; default: now; first champion: all.
        by: Person who acts, for the ledger; default: the user of this machine.
        dry_run: Show the resulting arms, but write nothing.
    """

    def changed(arms: Sequence[Arm], from_ms: int | None, now_ms: int) -> list[Arm]:
        return arm_changes.with_champion(arms, version, from_ms=from_ms, now_ms=now_ms)

    reason = f"version {version} is the champion"
    _change(_Act(name, reason, version, since, by, dry_run, is_champion=True, answers=True), changed)


def shadow(
    name: str,
    arm: str,
    *,
    version: int | None = None,
    remove: Annotated[bool, Parameter(negative="")] = False,
    by: str | None = None,
    dry_run: DryRun = False,
) -> None:
    """Add a shadow, which scores all requests while callers get the other arms' predictions; or remove it.

    Args:
        name: Model.
        arm: Shadow.
        version: Version that the shadow scores with.
        remove: Remove the shadow.
        by: Person who acts, for the ledger; default: the user of this machine.
        dry_run: Show the resulting arms, but write nothing.
    """
    if (version is None) != remove:
        fail("driftline models: give either --version or --remove")

    def changed(arms: Sequence[Arm], _from_ms: int | None, now_ms: int) -> list[Arm]:
        if version is None:
            return arm_changes.without_shadow(arms, arm)
        return arm_changes.with_shadow(arms, arm, version, now_ms=now_ms)

    reason = f"shadow {arm} removed" if remove else f"shadow {arm} added"
    _change(_Act(name, reason, version, None, by, dry_run), changed)


def end(name: str, arm: str, *, since: From = None, by: str | None = None, dry_run: DryRun = False) -> None:
    """End a challenger: the champion gets back its share, in every segment.

    Args:
        name: Model.
        arm: Challenger.
        since: Event time of the end, in RFC 3339; default: now.
        by: Person who acts, for the ledger; default: the user of this machine.
        dry_run: Show the resulting arms, but write nothing.
    """

    def changed(arms: Sequence[Arm], from_ms: int | None, now_ms: int) -> list[Arm]:
        return arm_changes.without_arm(arms, arm, from_ms=now_ms if from_ms is None else from_ms)

    _change(_Act(name, f"{arm} ends", None, since, by, dry_run), changed)


@dataclasses.dataclass(frozen=True)
class _Act:
    """What an operator asks for, and who it is."""

    name: str
    reason: str
    version: int | None
    since: str | None
    by: str | None
    dry_run: bool
    is_champion: bool = False
    answers: bool = False
    """Whether the version will answer requests, which may need an approval."""


def _change(act: _Act, changed: ChangeArms) -> None:
    """Read the arms, change them, write them; with a new champion its reference as well.

    The ledger is opened first: without it nothing is changed. Its entry is written last. If the command ends
    before that, the next one, or the process that changes arms next, writes the entry.
    """
    settings, at_ms = Settings(), times.now_ms()
    name, version = act.name, act.version
    with _errors_reported():
        actor = ledger.operator(act.by)
        if version is not None:
            check_version(settings, name, version)
        known = (
            champion_reference.of_version(settings, name, version) if version and act.is_champion else None
        )
        with ledger.opened(settings) as entries, models_topic.opened(settings) as models:
            if act.answers and version is not None:
                _check_approval(settings, entries, name, version)
            from_ms = None if act.since is None else arm_changes.parse_time_ms(act.since)

            def make(latest: ModelChanged | None) -> list[ModelChanged]:
                arms = changed(latest.arms if latest else (), from_ms, at_ms)
                record = arm_changes.make_change(
                    name,
                    latest,
                    arms,
                    reason=f"by hand: {act.reason}",
                    from_ms=at_ms if from_ms is None else from_ms,
                    now_ms=at_ms,
                )
                return [champion_reference.with_reference(settings, record, known)]

            if act.dry_run:
                (record,) = make(models.latest.get(name))
            else:
                (record,) = publish_recorded(entries, models, name, make, actor=actor, at_ms=at_ms)
        _print_arms(f"{name}: {'would be' if act.dry_run else 'ok '}", record.arms)
        if version and act.is_champion and known is None and not champion_reference.is_known(record, version):
            say(NO_REFERENCE)


def _check_approval(settings: Settings, entries: Ledger, name: str, version: int) -> None:
    """Raise `ChangeError` if the version was rejected, or its model requires an approval that it lacks."""
    path = settings.models / name / FILE
    if not path.is_file():
        return
    digest = version_digest.of_decided(settings, entries.entries, name, version)
    if reason := approvals.refusal(entries.entries, declaration_file.load(path), version, digest):
        raise ChangeError(reason)


def publish_recorded(
    entries: Ledger, models: ModelsTopic, name: str, make: MakeChanges, *, actor: str, at_ms: int
) -> Sequence[ModelChanged]:
    """Write what follows from the latest arms of a model, then its entries in the ledger.

    The entries of changes whose writer ended before it wrote them are written first.

    Args:
        entries: The ledger.
        models: The models topic.
        name: Model.
        make: Returns the changes on top of the latest one; called again if somebody else overtakes them.
        actor: Who changes the arms.
        at_ms: When, wall time.

    Returns:
        The changes that were written.

    Raises:
        OvertakenError: Somebody else was faster each time.
    """
    for change in ledger_drafts.unrecorded(entries.entries, models.latest):
        entries.append(ledger_drafts.of_change(change, actor=ledger.UNKNOWN, at_ms=times.now_ms()))
    changes = models.publish_on_latest(name, make)
    for change in changes:
        entries.append(ledger_drafts.of_change(change, actor=actor, at_ms=at_ms))
    return changes


def _errors_reported() -> contextlib.AbstractContextManager[None]:
    """End the command with a message for the operator and exit code 1 when it fails."""
    return failing_on(
        "driftline models",
        ChangeError,
        DeclarationError,
        LedgerError,
        MissingTopicError,
        OvertakenError,
        ShareError,
    )


def _print_arms(title: str, arms: Sequence[Arm]) -> None:
    say(title, *(f"  {line}" for line in arm_changes.format_arms(arms)))
