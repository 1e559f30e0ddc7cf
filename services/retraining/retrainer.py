"""The steps from a request to its result, in an order that allows a crash at any point."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import structlog

from services.feature_store.plan import PlanError
from services.model_registry import large_references, loading, mlflow_client, model_inputs
from services.model_registry.contract import Model
from services.model_registry.model_inputs import Inputs
from services.model_registry.traffic_split import CHAMPION
from services.model_registry.training_code import function_of
from services.monitoring import reference
from services.retraining import candidate, dataset, mlflow_run, rollout, validation
from services.retraining.errors import RetrainingError, in_training_code
from services.retraining.gates import refusals
from services.retraining.history import RetrainingHistory
from services.runtime import metrics
from services.runtime.declaration import Gates, ModelDeclaration
from services.runtime.declaration_file import DeclarationFolder
from services.runtime.settings import Settings
from streams.feature_sets import FeatureSets
from streams.outages import is_outage
from streams.records import ModelChanged, Reference, ReferenceName, RetrainingFinished, RetrainingRequested

log = structlog.get_logger()

MakeChanges = Callable[[ModelChanged | None], Sequence[ModelChanged]]
"""Returns the changes that must follow the latest change of a model."""


class RetrainingPublisher(Protocol):
    """Writes records; each method returns when the broker has acknowledged them."""

    def publish_result(self, finished: RetrainingFinished) -> None:
        """Write the result of a request to the retraining topic."""

    def feature_sets(self, model: str) -> FeatureSets:
        """Return the published names of the features that the predictions of a model hold."""

    def publish_reference(self, model: str, reference: Reference) -> ReferenceName:
        """Write a reference that is too large for a change, and return its name."""

    def publish_changes(self, model: str, make: MakeChanges) -> None:
        """Write to the models topic what follows from the latest change: operators change arms as well."""


class Retrainer:
    """Handles one request after another.

    1. Register the candidate with the request's id. A repeat finds it and skips the training.
    2. Move the alias. A repeat changes nothing.
    3. Publish the reference if it is large, then `ModelChanged`. A repeat finds its id in the latest change.
    4. Publish `RetrainingFinished`. A repeat of the whole request finds it and does nothing.

    An error up to step 1 gives the result "failed". A later error is raised: a registered version must not
    stay partly promoted, and the next attempt resumes where this one stopped.
    """

    def __init__(
        self,
        settings: Settings,
        folder: DeclarationFolder,
        publisher: RetrainingPublisher,
        end_offsets: dataset.EndOffsets,
    ) -> None:
        """Take the collaborators; nothing connects before `handle`."""
        self.history = RetrainingHistory()
        self._settings = settings
        self._folder = folder
        self._publisher = publisher
        self._end_offsets = end_offsets

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

    def handle(self, request: RetrainingRequested) -> RetrainingFinished | None:
        """Retrain unless the request has a result already; return the new result, or None."""
        if self.history.is_finished(request.request_id):
            log.info("retraining.repeat", request_id=request.request_id)
            return None
        began = time.monotonic()
        log.info(
            "retraining.started", model=request.model, request_id=request.request_id, trigger=request.trigger
        )
        result = self._result(request)
        return self._finish(request, result, time.monotonic() - began)

    def give_up(self, request: RetrainingRequested, reason: str) -> None:
        """Give a request the result "failed", unless it has a result."""
        if not self.history.is_finished(request.request_id):
            self._finish(request, _failed(reason), 0.0)

    def _finish(
        self, request: RetrainingRequested, result: Mapping[str, Any], seconds: float
    ) -> RetrainingFinished:
        finished = RetrainingFinished(
            request_id=request.request_id,
            model=request.model,
            trigger=request.trigger,
            requested_at_ms=request.requested_at_ms,
            duration_seconds=round(seconds, 3),
            **result,
        )
        self._publisher.publish_result(finished)
        self.history.add(finished)
        metrics.RETRAININGS.labels(request.trigger, finished.result).inc()
        metrics.RETRAINING_DURATION.observe(seconds)
        log.info("retraining.finished", model=request.model, result=finished.result, version=finished.version,
                 reasons=finished.reasons, seconds=finished.duration_seconds)  # fmt: skip
        return finished

    def _result(self, request: RetrainingRequested) -> dict[str, Any]:
        declaration = self._folder.valid.get(request.model)
        if declaration is None:
            known = ", ".join(self._folder.valid)
            return _failed(f"there is no model {request.model!r}; declared models: {known}")
        if declaration.gates is None:
            return _failed(
                f"{request.model} cannot be retrained: its model.yaml has no section gates; add one"
            )
        refusal = self.history.cooldown_refusal(request, declaration)
        if refusal is not None:
            return {"result": "rejected", "version": 0, "reasons": [refusal]}
        try:
            registered = self._register(request, declaration, declaration.gates)
        except Exception as error:
            if is_outage(error):
                raise
            log.exception("retraining.failed", model=request.model, request_id=request.request_id)
            return _failed(f"{type(error).__name__}: {error}")
        self._decide(request, declaration, registered)
        return {
            "result": "rejected" if registered.reasons else "promoted",
            "version": registered.version,
            "reasons": registered.reasons,
            "metrics": registered.metrics,
            "rows": registered.rows,
            "run_id": registered.run_id,
        }

    def _register(
        self, request: RetrainingRequested, declaration: ModelDeclaration, gates: Gates
    ) -> mlflow_run.RegisteredCandidate:
        """Return the candidate of this request: the one that was registered before a crash, or a new one."""
        client = mlflow_client.connect(self._settings)
        found = mlflow_run.find(client, request.model, request.request_id)
        if found is not None:
            log.info("retraining.resumed", request_id=request.request_id, version=found.version)
            return found
        with mlflow_run.RetrainingRun(client, self._settings, request) as run:
            return self._train(client, run, request, declaration, gates)

    def _train(
        self,
        client: Any,
        run: mlflow_run.RetrainingRun,
        request: RetrainingRequested,
        declaration: ModelDeclaration,
        gates: Gates,
    ) -> mlflow_run.RegisteredCandidate:
        steps = _StepTimer(request)
        offsets = dataset.wanted_offsets(request, self._end_offsets)
        dataset.wait_for_archive(self._settings, request.model, offsets)
        steps.done("archive")
        given = model_inputs.of_model(self._settings, declaration)
        sets = self._publisher.feature_sets(request.model)
        definitions = model_inputs.definitions_of_model(self._settings, declaration)
        known_ms = request.requested_at_ms
        data = dataset.read(self._settings, declaration, given, known_ms, sets, definitions)
        if declaration.retraining.window == "since_change" and request.train_from_ms is not None:
            data = dataset.since_change(data, request.train_from_ms, declaration.retraining)
        steps.done("read", rows=data.version.rows, left_out=data.left_out)
        validation.validate(data, declaration, request.requested_at_ms)
        steps.done("validate")
        champion = self._champion(client, request, declaration, given)
        with in_training_code():
            make_estimator = function_of(self._settings.models, request.model, "estimator")
            trained = candidate.train(data, declaration, make_estimator, champion)
        steps.done("train")
        reasons = refusals(gates, trained.metrics, trained.champion)
        run.log(trained, data, declaration, offsets, reasons)
        kept = mlflow_run.RegisteredCandidate(
            version=0,  # assigned by the registry
            run_id=run.run_id,
            rows=data.version.rows,
            metrics=mlflow_run.metrics_of(trained),
            reasons=reasons,
            reference=_reference(trained, data, declaration),
        )
        registered = mlflow_run.with_version(kept, run.register(trained, declaration, given, kept))
        steps.done("register")
        return registered

    def _champion(
        self, client: Any, request: RetrainingRequested, declaration: ModelDeclaration, given: Inputs
    ) -> Model | None:
        version = mlflow_client.version_of(client, request.model, CHAMPION)
        if version is None:
            return None
        try:
            return loading.load(self._settings, declaration, given, version)
        except mlflow_client.RegistryError as error:
            raise RetrainingError(
                f"the champion cannot be loaded for the comparison: {error}; or remove the alias {CHAMPION} "
                "to promote without a comparison"
            ) from error

    def _decide(
        self,
        request: RetrainingRequested,
        declaration: ModelDeclaration,
        registered: mlflow_run.RegisteredCandidate,
    ) -> None:
        client = mlflow_client.connect(self._settings)
        if registered.reasons:
            mlflow_run.refuse(client, declaration, registered.version)
            return
        mlflow_run.promote(client, declaration, registered.version)
        published: Reference | ReferenceName = registered.reference
        if large_references.is_large(registered.reference):
            published = self._publisher.publish_reference(request.model, registered.reference)
        make = functools.partial(rollout.changes, declaration, request, published)
        self._publisher.publish_changes(request.model, make)


def _reference(
    trained: candidate.Candidate, data: dataset.TrainingSet, declaration: ModelDeclaration
) -> Reference:
    """Return the reference of a candidate, whose version is not known yet."""
    features = trained.trained_on
    columns = {
        str(name): features[name].to_numpy(dtype=object if name in data.text else float)
        for name in features.columns
    }
    rows = reference.KnownRows(columns, data.event_times_ms[features.index])
    held_out_ms = data.event_times_ms[-len(trained.held_out_scores) :]  # rows are ordered by event time
    labels = trained.held_out_labels.astype(np.float64)
    known = reference.KnownOutputs(trained.held_out_scores, labels, held_out_ms)
    return reference.build(0, rows, known, declaration, trained.importances)


class _StepTimer:
    """Logs how long each step took, at debug level."""

    def __init__(self, request: RetrainingRequested) -> None:
        self._log = log.bind(request_id=request.request_id)
        self._began = time.monotonic()

    def done(self, stage: str, **values: Any) -> None:
        now = time.monotonic()
        self._log.debug("retraining.stage", stage=stage, seconds=round(now - self._began, 3), **values)
        self._began = now


def _failed(reason: str) -> dict[str, Any]:
    return {"result": "failed", "version": 0, "reasons": [reason]}
