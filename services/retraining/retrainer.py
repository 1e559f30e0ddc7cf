"""From a request to its result, in an order that allows a crash at any point."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import structlog

from services.feature_store.plan import PlanError
from services.model_registry import large_references, ledger_drafts, mlflow_client, model_inputs
from services.model_registry.models_topic import MakeChanges
from services.retraining import (
    archive_progress,
    code_version,
    mlflow_run,
    rollout,
    run_folder,
    serving_champion,
)
from services.retraining.archive_progress import EndOffsets
from services.retraining.errors import without_gates
from services.retraining.history import RetrainingHistory
from services.retraining.mlflow_run import RegisteredCandidate
from services.retraining.run_folder import RunContext, RunFolder
from services.retraining.steps import pipeline
from services.runtime import metrics
from services.runtime.declaration import ModelDeclaration
from services.runtime.declaration_file import DeclarationFolder
from services.runtime.retraining_cooldown import BY_PEOPLE
from services.runtime.settings import Settings
from streams.feature_sets import FeatureSets
from streams.outages import is_outage
from streams.records import (
    LedgerEntry,
    ModelChanged,
    Reference,
    ReferenceName,
    RetrainingFinished,
    RetrainingRequested,
    RolloutRecord,
)

log = structlog.get_logger()

Result = Mapping[str, Any]
"""Fields of `RetrainingFinished`."""
RunSteps = Callable[[RunFolder, Settings], RegisteredCandidate]


class RetrainingPublisher(Protocol):
    """Reads and writes topics; a method that writes returns when the broker has acknowledged it."""

    def publish_result(self, finished: RetrainingFinished, request: RetrainingRequested) -> None:
        """Write the result of a request to the ledger and to the retraining topic."""

    def model_state(self, model: str) -> tuple[ModelChanged | None, FeatureSets]:
        """Return the latest change of a model, and the published names of its features."""

    def rollouts(self, model: str) -> Sequence[RolloutRecord]:
        """Return the records of all rollouts of a model."""

    def publish_reference(self, model: str, reference: Reference) -> ReferenceName:
        """Write a reference that is too large for a change, and return its name."""

    def publish_changes(self, model: str, make: MakeChanges) -> None:
        """Write to the models topic what follows from the latest change: operators change arms as well."""


class Retrainer:
    """Handles requests: `begin`, then the steps in `RunFolder`, then `complete`.

    0. If the ledger has a result of the request already, go on with step 4.
    1. Run the steps; the last one registers the candidate with the request's id. A repeat skips what is done.
    2. Move the alias. A repeat changes nothing.
    3. Publish the reference if it is large, then `ModelChanged`. A repeat finds its id in the latest change.
    4. Write the ledger, then publish `RetrainingFinished`. A repeat of the whole request finds it and does
       nothing.

    An error up to step 1 gives the result "failed", unless it is an outage. After a later error the request
    is begun again, and resumes where it stopped: a registered version must not stay partly promoted.
    """

    def __init__(
        self,
        settings: Settings,
        folder: DeclarationFolder,
        publisher: RetrainingPublisher,
        end_offsets: EndOffsets,
    ) -> None:
        """Take the collaborators; nothing connects before `begin`."""
        self.history = RetrainingHistory()
        self._settings = settings
        self._folder = folder
        self._publisher = publisher
        self._end_offsets = end_offsets
        self._entries: Sequence[LedgerEntry] = ()

    def wait_reason(self, request: RetrainingRequested) -> str | None:
        """Return why a request must wait until the declarations are mended; None if it need not.

        Without a declaration or a feature service that fits it, nothing can be said about the request.
        """
        declaration = self._folder.valid.get(request.model)
        if declaration is None:
            fault = self._folder.faults.get(request.model)
            return None if fault is None else f"its model.yaml is invalid: {fault}"
        try:
            model_inputs.of_model(self._settings, declaration)
        except PlanError as error:
            return str(error)
        return None

    def archive_reason(self, run: RunFolder) -> str | None:
        """Return which records of a run the archive does not hold yet; None if it holds all."""
        request, context = run.request, run.context
        missing = archive_progress.missing_records(self._settings, request.model, context.offsets)
        return f"the archive does not hold {'; '.join(missing)} yet" if missing else None

    def handle(
        self, request: RetrainingRequested, run_steps: RunSteps = pipeline.run_all
    ) -> RetrainingFinished | None:
        """Retrain in this process, unless the request has a result already; return the new result, or None.

        Raises the errors of outages.
        """
        began = time.monotonic()
        run = self.begin(request)
        if run is None:
            return None
        if isinstance(run, RetrainingFinished):
            return run
        try:
            registered = run_steps(run, self._settings)
        except Exception as error:
            if is_outage(error):
                raise
            log.exception("retraining.failed", model=request.model, request_id=request.request_id)
            return self.give_up(request, reason_of(error), time.monotonic() - began)
        return self.complete(request, registered, time.monotonic() - began)

    def begin(self, request: RetrainingRequested) -> RunFolder | RetrainingFinished | None:
        """Return the folder of a request to be trained, or else its new result; None if it has a result."""
        if self.history.is_finished(request.request_id):
            log.info("retraining.repeat", request_id=request.request_id)
            return None
        log.info(
            "retraining.started", model=request.model, request_id=request.request_id, trigger=request.trigger
        )
        declaration = self._folder.valid.get(request.model)
        if recorded := self._recorded(request):
            return recorded
        refusal = self._refusal(request, declaration)
        if refusal is not None:
            return self._finish(request, refusal, 0.0)
        assert declaration is not None, "it was refused otherwise"
        run = run_folder.of_request(self._settings, request.model, request.request_id)
        code = self._settings.models / request.model
        run_folder.prepare(run, request, declaration, self._context(request, declaration), code)
        return run

    def _refusal(self, request: RetrainingRequested, declaration: ModelDeclaration | None) -> Result | None:
        if declaration is None:
            known = ", ".join(self._folder.valid)
            return _failed(f"there is no model {request.model!r}; declared models: {known}")
        if declaration.gates is None:
            return _failed(without_gates(request.model))
        refusal = self.history.cooldown_refusal(request, declaration) or self.trial_refusal(
            request, declaration
        )
        return {"result": "rejected", "version": 0, "reasons": [refusal]} if refusal else None

    def trial_refusal(self, request: RetrainingRequested, declaration: ModelDeclaration) -> str | None:
        """Return why an automatic request is refused while a version of the model is on trial; or None."""
        if request.trigger in BY_PEOPLE or not declaration.rollout.steps:
            return None
        for record in self._publisher.rollouts(request.model):
            self.history.add_rollout(record)
        return self.history.trial_refusal(request, declaration)

    def _context(self, request: RetrainingRequested, declaration: ModelDeclaration) -> RunContext:
        change, sets = self._publisher.model_state(request.model)
        champion = serving_champion.version_at(change, request.requested_at_ms)
        reference = None if change is None else change.reference
        return RunContext(
            offsets=archive_progress.wanted_offsets(request, self._end_offsets),
            champion=champion,
            reference=reference if reference is not None and reference.version == champion else None,
            given=dict(model_inputs.of_model(self._settings, declaration)),
            definitions=model_inputs.definitions_of_model(self._settings, declaration),
            feature_sets=list(sets.published.values()),
            code=code_version.of_installation(self._settings),
        )

    def complete(
        self, request: RetrainingRequested, registered: RegisteredCandidate, seconds: float
    ) -> RetrainingFinished:
        """Publish what follows from a registered candidate, and then the result.

        With ``rollout.steps`` the rollout process follows from the result ``passed``.
        """
        declaration = self._folder.valid.get(request.model)
        has_rollout = declaration is not None and bool(declaration.rollout.steps)
        if not registered.reasons and declaration is not None and not has_rollout:
            self._promote(request, declaration, registered)
        passed = "passed" if has_rollout else "promoted"
        result = {
            "result": "rejected" if registered.reasons else passed,
            "version": registered.version,
            "reasons": registered.reasons,
            "metrics": registered.metrics,
            "rows": registered.rows,
            "run_id": registered.run_id,
            "data_tables": registered.tables,
        }
        return self._finish(request, result, seconds)

    def _promote(
        self, request: RetrainingRequested, declaration: ModelDeclaration, registered: RegisteredCandidate
    ) -> None:
        published: Reference | ReferenceName = registered.reference
        if large_references.is_large(registered.reference):
            published = self._publisher.publish_reference(request.model, registered.reference)
        make = functools.partial(rollout.changes, declaration, request, published)
        self._publisher.publish_changes(request.model, make)

    def has_version(self, request: RetrainingRequested) -> bool:
        """Tell whether a version of a request is registered. Raises an outage of the registry."""
        run = run_folder.of_request(self._settings, request.model, request.request_id)
        if run.has(run_folder.REGISTERED):
            return True
        if not run.has(run_folder.REFERENCE):  # the step before register has written it
            return False
        client = mlflow_client.connect(self._settings)
        return mlflow_run.find(client, request.model, request.request_id) is not None

    def give_up(
        self, request: RetrainingRequested, reason: str, seconds: float = 0.0
    ) -> RetrainingFinished | None:
        """Give a request the result "failed", unless it has a result."""
        if self.history.is_finished(request.request_id):
            return None
        return self._recorded(request) or self._finish(request, _failed(reason), seconds)

    def recall(self, entries: Sequence[LedgerEntry]) -> None:
        """Take the ledger: a kill between the entries of a result and its record leaves the entries alone."""
        self._entries = [entry for entry in entries if self.history.is_open(entry.request_id)]

    def _recorded(self, request: RetrainingRequested) -> RetrainingFinished | None:
        """Write the result that the ledger has already of a request; None if it has none.

        Another attempt might end differently, and then ledger and topics would contradict each other.
        """
        found = ledger_drafts.result_of(self._entries, request.request_id)
        if found is None:
            return None
        return self._finish(request, found, float(found.pop("duration_seconds", 0.0)))

    def _finish(self, request: RetrainingRequested, result: Result, seconds: float) -> RetrainingFinished:
        finished = RetrainingFinished(
            request_id=request.request_id,
            model=request.model,
            trigger=request.trigger,
            requested_at_ms=request.requested_at_ms,
            duration_seconds=round(seconds, 3),
            **result,
        )
        self._publisher.publish_result(finished, request)
        self.history.add(finished)
        metrics.RETRAININGS.labels(request.trigger, finished.result).inc()
        metrics.RETRAINING_DURATION.observe(seconds)
        log.info("retraining.finished", model=request.model, result=finished.result, version=finished.version,
                 reasons=finished.reasons, seconds=finished.duration_seconds)  # fmt: skip
        return finished


def reason_of(error: Exception) -> str:
    """Return an error as the reason of a result."""
    return f"{type(error).__name__}: {error}"


def _failed(reason: str) -> dict[str, Any]:
    return {"result": "failed", "version": 0, "reasons": [reason]}
