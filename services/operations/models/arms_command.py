"""``driftline models list``, ``champion``, ``share``, ``shadow`` and ``end``."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from services.runtime.command_output import say
from services.runtime.settings import Settings

if TYPE_CHECKING:
    from streams.records import Arm

DryRun = Annotated[bool, Parameter(negative="")]
From = Annotated[str | None, Parameter(name="--from")]


def show(name: str | None = None) -> None:
    """Show which versions answer, with their shares, and the shadows.

    Args:
        name: Of one model; default: all.
    """
    from services.model_registry import models_topic
    from services.operations.models import arm_changes

    with _told():
        latest = models_topic.read(Settings()).latest
        chosen = sorted(latest) if name is None else [name]
        for model in chosen:
            if model not in latest:
                raise arm_changes.ChangeError(f"{model} has no arms yet; known: {', '.join(sorted(latest))}")
            say(
                f"{model}: {latest[model].reason}",
                *(f"  {line}" for line in arm_changes.lines(latest[model].arms)),
            )


def share(
    name: str,
    arm: str,
    *,
    version: int,
    share: str,
    segment: Annotated[list[str] | None, Parameter(negative="")] = None,
    since: From = None,
    dry_run: DryRun = False,
) -> None:
    """Let an arm answer a share of the keys; it takes them from the champion, or gives them back.

    Args:
        name: Of the model.
        arm: Of the challenger, new or not.
        version: With which it scores.
        share: In 1/10,000, or as 5%.
        segment: Only of requests with one of these values, as carrier=UA,AA; repeat it for further fields.
        since: Only requests of this event time or later, in RFC 3339; default: now.
        dry_run: Only show the arms that would be.
    """
    from services.operations.models import arm_changes

    def changed(arms: "Sequence[Arm]", from_ms: int | None, now_ms: int) -> "list[Arm]":
        chosen = arm_changes.parse_segment(_declaration(name), segment or ()) if segment else {}
        begin_ms = now_ms if from_ms is None else from_ms
        return arm_changes.shared(
            arms, arm, version, arm_changes.parse_share(share), from_ms=begin_ms, segment=chosen
        )

    _change(name, changed, f"{arm} gets {share}", version=version, since=since, dry_run=dry_run)


def champion(name: str, *, version: int, since: From = None, dry_run: DryRun = False) -> None:
    """Make a version the champion: it answers all that the challengers leave.

    Args:
        name: Of the model.
        version: Of the new champion.
        since: Only requests of this event time or later, in RFC 3339; default: now, for the first one: all.
        dry_run: Only show the arms that would be.
    """
    from services.operations.models import arm_changes

    def changed(arms: "Sequence[Arm]", from_ms: int | None, now_ms: int) -> "list[Arm]":
        return arm_changes.crowned(arms, version, from_ms=from_ms, now_ms=now_ms)

    reason = f"version {version} is the champion"
    _change(name, changed, reason, version=version, since=since, dry_run=dry_run)


def shadow(
    name: str,
    arm: str,
    *,
    version: int | None = None,
    remove: Annotated[bool, Parameter(negative="")] = False,
    dry_run: DryRun = False,
) -> None:
    """Let a version score all requests without answering them, or end that.

    Args:
        name: Of the model.
        arm: Of the shadow.
        version: With which it scores.
        remove: End it.
        dry_run: Only show the arms that would be.
    """
    from services.operations.models import arm_changes

    if (version is None) != remove:
        sys.exit("driftline models: give either --version or --remove")

    def changed(arms: "Sequence[Arm]", _from_ms: int | None, now_ms: int) -> "list[Arm]":
        if version is None:
            return arm_changes.unshadowed(arms, arm)
        return arm_changes.shadowed(arms, arm, version, now_ms=now_ms)

    reason = f"{arm} is {'no' if remove else 'a'} shadow{' any more' if remove else ''}"
    _change(name, changed, reason, version=version, since=None, dry_run=dry_run)


def end(name: str, arm: str, *, since: From = None, dry_run: DryRun = False) -> None:
    """End a challenger: the champion gets back what it has, in every segment.

    Args:
        name: Of the model.
        arm: Of the challenger.
        since: From this event time on, in RFC 3339; default: now.
        dry_run: Only show the arms that would be.
    """
    from services.operations.models import arm_changes

    def changed(arms: "Sequence[Arm]", from_ms: int | None, now_ms: int) -> "list[Arm]":
        return arm_changes.ended(arms, arm, from_ms=now_ms if from_ms is None else from_ms)

    _change(name, changed, f"{arm} ends", version=None, since=since, dry_run=dry_run)


def _change(
    name: str,
    changed: "Callable[[Sequence[Arm], int | None, int], list[Arm]]",
    reason: str,
    *,
    version: int | None,
    since: str | None,
    dry_run: bool,
) -> None:
    """Read the arms, change them, write them, all of which may fail with a word to the operator."""
    from services.model_registry import models_topic
    from services.operations.models import arm_changes

    settings, now_ms = Settings(), time.time_ns() // 1_000_000
    with _told():
        if version is not None:
            _check_version(settings, name, version)
        state = models_topic.read(settings)
        latest = state.latest.get(name)
        from_ms = None if since is None else arm_changes.parse_time_ms(since)
        arms = changed(latest.arms if latest else (), from_ms, now_ms)
        record = arm_changes.change(
            name,
            latest,
            arms,
            reason=f"by hand: {reason}",
            from_ms=now_ms if from_ms is None else from_ms,
            now_ms=now_ms,
        )
        if not dry_run:
            models_topic.publish(settings, record, state)
        say(f"{name}: {'would be' if dry_run else 'ok '}", *(f"  {line}" for line in arm_changes.lines(arms)))


def _declaration(name: str) -> Any:
    from services.runtime import declaration_file
    from services.runtime.declaration import FILE

    return declaration_file.load_named(Settings().models / name / FILE)


def _check_version(settings: Settings, name: str, version: int) -> None:
    from mlflow.exceptions import MlflowException

    from services.model_registry import mlflow_client, models_topic
    from services.operations.models.arm_changes import ChangeError
    from services.runtime import declaration_file
    from services.runtime.declaration import FILE

    path = settings.models / name / FILE
    if path.is_file() and declaration_file.load(path).learning is not None:
        if not models_topic.is_learned(settings, name, version):
            raise ChangeError(f"{name} learns online, and its version {version} is not kept (any more)")
        return
    try:
        mlflow_client.connect(settings).get_model_version(name, str(version))
    except MlflowException as error:
        raise ChangeError(f"the registry at {settings.mlflow_uri} has no {name} version {version}") from error


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turn what may go wrong into one line and an exit code."""
    from kafka.errors import KafkaError

    from services.model_registry.models_topic import PublishingError
    from services.model_registry.traffic_split import ShareError
    from services.operations.models.arm_changes import ChangeError
    from services.runtime.declaration import DeclarationError

    try:
        yield
    except (ChangeError, DeclarationError, PublishingError, ShareError) as error:
        sys.exit(f"driftline models: {error}")
    except KafkaError as error:
        sys.exit(f"driftline models: Kafka: {error}: try 'driftline check --connect'")
