"""Decides on rollouts, and writes what follows from each decision, in an order that allows a crash anywhere.

1. The record of the decision, in `driftline.rollouts`.
2. Its entry in the ledger.
3. The arms, in the models topic, and their entry in the ledger.
4. The aliases in MLflow.

After a crash the record says what is still to be done. A repeat of each write changes nothing: records have
the id of their rollout, ledger entries are written once, and arms and aliases are compared first. The
aliases may wait for a registry that is away; arms never wait for it, except for the reference of a new
champion.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import structlog

from services.model_registry import ledger_drafts
from services.model_registry.approvals import Approval
from services.model_registry.ledger_chain import EntryDraft
from services.model_registry.models_topic import ModelsTopic, OvertakenError
from services.model_registry.traffic_split import ShareError
from services.rollout import aliases, decision_entries, rollout_arms, rollout_state
from services.rollout.promoted_reference import WithReference
from services.rollout.rollout_log import RolloutLog
from services.rollout.rollout_state import ModelRollouts, RolloutProgress
from services.rollout.step_verdict import StepVerdict
from services.runtime import metrics, times
from services.runtime.declaration import ModelDeclaration
from streams.outages import is_outage
from streams.records import Arm, ModelChanged, RolloutEnded, RolloutRecord, RolloutStepped

REGISTRY_SECONDS = 10.0
"""Time between two looks at the aliases in a rollout, and until a registry that is away is asked again."""
OUR_REASON = "rollout of version"
"""How the reason of each change of the arms begins that a rollout makes."""

Write = Callable[[RolloutRecord], None]
"""Writes a record to `driftline.rollouts`; returns when it is acknowledged."""
Enter = Callable[[EntryDraft], None]
"""Writes an entry to the ledger, once."""
Registry = Callable[[], Any]
"""Returns the client of MLflow."""
ApprovalOf = Callable[[str, int], Approval]
"""Returns what people have decided about a version of a model."""

_log = structlog.get_logger()


class RolloutDecisions:
    """The rollouts of all models of this worker."""

    def __init__(
        self,
        log: RolloutLog,
        arms: ModelsTopic,
        write: Write,
        enter: Enter,
        registry: Registry,
        with_reference: WithReference,
        approval_of: ApprovalOf,
    ) -> None:
        """Take what is read and written."""
        self._log = log
        self._arms = arms
        self._write = write
        self._enter = enter
        self._with_reference = with_reference
        self._approval_of = approval_of
        self._registry = RegistryAliases(registry)
        self._settled: dict[str, RolloutProgress] = {}
        """The progress of each model whose writes are complete."""

    def pursue(
        self, model: str, declared: ModelDeclaration | None, verdict: StepVerdict | None, now_ms: int | None
    ) -> None:
        """Decide the next step of a model's rollout, and write what follows.

        Args:
            model: Its name.
            declared: Its declaration; None if it is not declared any more.
            verdict: The verdict on the present step; None if it is not known.
            now_ms: The latest event time of its requests; None if it is not known yet.
        """
        rollouts = self._log.of(model)
        while rollouts.superseded:  # a kill may have come between the record and its entry
            self._enter_draft(rollouts.superseded[0])
            rollouts.superseded.pop(0)
        if not rollouts.is_active:
            self._settle(model, rollouts.current, declared)
            self._take_up(model, rollouts, declared)
        progress = rollouts.current
        if progress is None or not rollouts.is_active:
            self._mirror(model, declared)
            return
        self._settle(model, progress, declared)
        record = self._next(model, progress, declared, verdict, now_ms)
        if record is not None:
            self._decide(record)
            self._settle(model, rollouts.current, declared)
        self._mirror(model, declared)

    def weights(self, model: str) -> tuple[int, int]:
        """Return the shares of challenger and champion, in 1/10,000."""
        return rollout_arms.weights_of(self._latest_arms(model))

    def is_in_effect(self, model: str) -> bool:
        """Return whether the arms of a running step are in effect."""
        progress = self._log.of(model).current
        return progress is not None and rollout_state.is_in_effect(progress, self._latest_arms(model))

    # -- decisions -------------------------------------------------------------------------------

    def _take_up(self, model: str, rollouts: ModelRollouts, declared: ModelDeclaration | None) -> None:
        """Begin the rollout that was requested last; those that were requested before it end."""
        if not rollouts.waiting:
            return
        *older, newest = rollouts.waiting
        now_ms = times.now_ms()
        for request in older:
            self._decide(rollout_state.superseded(request, newest, at_ms=now_ms))
        awaits = declared is not None and self._lacks_approval(declared, newest.version)
        arms = self._latest_arms(model)
        self._decide(rollout_state.started(newest, arms, at_ms=now_ms, awaits_approval=awaits))

    def _next(
        self,
        model: str,
        progress: RolloutProgress,
        declared: ModelDeclaration | None,
        verdict: StepVerdict | None,
        now_ms: int | None,
    ) -> RolloutStepped | RolloutEnded | None:
        """Return the record that is to be written next; None if there is nothing to decide."""
        arms, at_ms = self._latest_arms(model), times.now_ms() if now_ms is None else now_ms + 1
        rollout = None if declared is None else declared.rollout
        change = self._arms.latest.get(model)
        reason = rollout_state.impossible(progress, arms, rollout) or rollout_state.interference(
            progress, arms, "" if change is None else change.reason
        )
        approval = self._approval_of(model, progress.version)
        if reason is None and approval.state == "rejected":
            reason = f"version {progress.version} was {approval}"
        if reason is None and progress.phase == "running":
            reason = self._registry.moved_by_hand(model, arms)
        if reason is not None or rollout is None or declared is None:
            return rollout_state.end(model, progress, arms, "ended", at_ms, reason or "")
        if progress.phase == "running":
            if verdict is None or not rollout_state.is_in_effect(progress, arms):
                return None
        elif (now_ms is None and arms) or (
            progress.phase == "awaiting_approval" and self._lacks_approval(declared, progress.version)
        ):
            return None
        try:
            if progress.phase == "running" and verdict is not None:
                return rollout_state.next_step(model, progress, rollout, arms, verdict, at_ms)
            return rollout_state.step(model, progress, rollout, arms, 0, at_ms, progress.reason)
        except ShareError as error:
            text = f"the next step is not possible: {error}"
            return rollout_state.end(model, progress, arms, "ended", at_ms, text)

    def _lacks_approval(self, declared: ModelDeclaration, version: int) -> bool:
        is_required = declared.governance.approval == "required"
        return is_required and self._approval_of(declared.name, version).state == "none"

    def _decide(self, record: RolloutRecord) -> None:
        self._write(record)
        self._log.apply(record)
        self._enter_draft(record)
        if isinstance(record, RolloutEnded):
            metrics.ROLLOUTS.labels(record.model, record.outcome).inc()
        _log.info("rollout.decided", **_logged(record))

    def _enter_draft(self, record: RolloutRecord) -> None:
        draft = decision_entries.draft(record, times.now_ms())
        if draft is not None:
            self._enter(draft)

    # -- what follows ------------------------------------------------------------------------------

    def _settle(
        self, model: str, progress: RolloutProgress | None, declared: ModelDeclaration | None
    ) -> None:
        """Write what the latest record asks for, unless that was done."""
        if progress is None or self._settled.get(model) == progress:
            return
        if progress.last is not None:
            self._enter_draft(progress.last)
        if progress.phase in ("running", "ended") and not self._publish(model, progress, declared):
            return
        latest = self._arms.latest.get(model)
        if latest is not None and _is_ours(progress, latest):
            self._enter(ledger_drafts.of_change(latest, actor=decision_entries.ACTOR, at_ms=times.now_ms()))
        self._settled[model] = progress
        self._registry.forget(model)
        _observe(model, progress)

    def _publish(self, model: str, progress: RolloutProgress, declared: ModelDeclaration | None) -> bool:
        """Write the arms that a record asks for; return False if that must be tried again later."""

        def lacking(latest: ModelChanged | None) -> Sequence[ModelChanged]:
            arms = [] if latest is None else latest.arms
            if rollout_state.is_in_effect(progress, arms) or not _is_based_on(progress, latest):
                return []  # they are in effect, or somebody else has changed them
            return [self._change(model, progress, latest, declared)]

        try:
            self._arms.publish_on_latest(model, lacking)
        except OvertakenError as error:
            _log.warning("rollout.arms_contended", model=model, error=str(error))
            return False
        except Exception as error:
            if progress.outcome != "promoted" or not is_outage(error):
                raise
            _log.warning("rollout.promotion_waits", model=model, error=repr(error))
            return False
        return True

    def _change(
        self,
        model: str,
        progress: RolloutProgress,
        latest: ModelChanged | None,
        declared: ModelDeclaration | None,
    ) -> ModelChanged:
        arms = rollout_state.arms_asked_for(progress, [] if latest is None else latest.arms)
        name = None if declared is None else declared.rollout.keep_first_as_shadow
        if latest is None and name is not None:
            arms.append(Arm(name=name, version=progress.version, weight=0, shadow=True))
        before = latest or ModelChanged(model=model, arms=[], changed_at_ms=progress.at_ms, reason="")
        change = msgspec.structs.replace(
            before,
            arms=arms,
            changed_at_ms=max(before.changed_at_ms, progress.at_ms),
            reason=f"{OUR_REASON} {progress.version}: {progress.reason}",
            request_id=progress.rollout_id,
        )
        if progress.outcome != "promoted":
            return change
        return self._with_reference(change, progress.version)

    def _mirror(self, model: str, declared: ModelDeclaration | None) -> None:
        """Let the aliases follow the arms."""
        if declared is not None and declared.learning is None:
            self._registry.mirror(model, self._latest_arms(model))

    def _latest_arms(self, model: str) -> list[Arm]:
        latest = self._arms.latest.get(model)
        return [] if latest is None else latest.arms


class RegistryAliases:
    """Keeps the aliases of models equal to their arms, and tells when somebody has moved one."""

    def __init__(self, registry: Registry) -> None:
        """Ask nothing before the first call."""
        self._registry = registry
        self._mirrored: dict[str, str] = {}
        """The arms that the aliases of each model follow."""
        self._asked_seconds: dict[str, float] = {}
        self._away_until_seconds = 0.0

    def forget(self, model: str) -> None:
        """Compare the aliases of a model again."""
        self._mirrored.pop(model, None)

    def mirror(self, model: str, arms: Sequence[Arm]) -> None:
        """Move the aliases that differ from the arms; try again later while the registry is away."""
        shown = rollout_arms.described(arms)
        if not arms or self._mirrored.get(model) == shown:
            return
        if self._asked(lambda client: aliases.reconcile(client, model, arms)) is not None:
            self._mirrored[model] = shown
            self._asked_seconds[model] = time.monotonic()

    def moved_by_hand(self, model: str, arms: Sequence[Arm]) -> str | None:
        """Return how somebody has moved the champion's alias since it was set; None if nobody has."""
        now_seconds = time.monotonic()
        is_mirrored = self._mirrored.get(model) == rollout_arms.described(arms)
        if not is_mirrored or now_seconds - self._asked_seconds.get(model, 0.0) < REGISTRY_SECONDS:
            return None
        self._asked_seconds[model] = now_seconds
        known = self._asked(lambda client: aliases.read(client, model) or {})
        moved = {} if not known else aliases.wanted(arms, known)
        if "champion" not in moved:
            return None
        self.forget(model)
        return (
            f"somebody has moved MLflow's alias champion to version {(known or {}).get('champion')} during "
            "the rollout; it was put back: use 'driftline models champion' to change the champion"
        )

    def _asked(self, ask: Callable[[Any], Mapping[str, int]]) -> Mapping[str, int] | None:
        """Return the answer of the registry; None while it is away."""
        if time.monotonic() < self._away_until_seconds:
            return None
        try:
            return ask(self._registry())
        except Exception as error:
            if not is_outage(error):
                raise
            self._away_until_seconds = time.monotonic() + REGISTRY_SECONDS
            _log.warning("rollout.registry_away", error=repr(error))
            return None


def _is_based_on(progress: RolloutProgress, latest: ModelChanged | None) -> bool:
    """Tell whether the arms are still those on which the latest record of a rollout is based.

    An operator may make equal ones much later, after the end of the rollout.
    """
    if rollout_arms.described([] if latest is None else latest.arms) != progress.arms_before:
        return False
    if progress.phase != "ended" or progress.step < 0 or progress.outcome == "ended" or latest is None:
        return True
    return _is_ours(progress, latest)


def _is_ours(progress: RolloutProgress, change: ModelChanged) -> bool:
    """Tell whether a rollout has made a change of the arms; one by hand keeps the id of the one before."""
    return change.request_id == progress.rollout_id and change.reason.startswith(OUR_REASON)


def _observe(model: str, progress: RolloutProgress) -> None:
    is_over = progress.phase == "ended"
    metrics.ROLLOUT_SHARE.labels(model).set(-1 if is_over else progress.share / 10_000)


def _logged(record: RolloutRecord) -> dict[str, Any]:
    """Return what the log says of a record."""
    kept = ("rollout_id", "model", "version", "step", "share", "outcome", "reason")
    found = {name: getattr(record, name) for name in kept if hasattr(record, name)}
    return {"record": type(record).__name__, **found}
