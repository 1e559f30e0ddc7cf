"""The MLflow side of a retraining: its run, version and aliases."""

import contextlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import msgspec

from services.model_registry import artifact_location, bounded_download, mlflow_client, registration
from services.model_registry.model_inputs import Inputs
from services.model_registry.traffic_split import CHAMPION
from services.retraining import plots
from services.retraining.candidate import Candidate
from services.retraining.dataset import TrainingSet
from services.runtime import times
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import Settings
from streams import records

ARTIFACT = "candidate.json"
"""The run's file with its `RegisteredCandidate`."""
ARTIFACT_BYTES_MAX = 256 * bounded_download.MIB
"""Maximum size of that file: a reference of thousands of features has a few MiB."""


class RegisteredCandidate(msgspec.Struct, frozen=True):
    """A registered candidate with all data for its promotion; stored in its run, so a restart can resume."""

    version: int
    run_id: str
    rows: int
    metrics: dict[str, float]
    reasons: list[str]
    """The reasons for which gates refuse it; empty if it passed."""
    reference: records.Reference


def find(client: Any, model: str, request_id: str) -> RegisteredCandidate | None:
    """Return the candidate that a request has registered before a crash; None if there is none.

    A run is not of a retraining if its files are in a place from which none are downloaded, or too large.
    """
    for version in client.search_model_versions(f"name='{model}'"):
        if version.tags.get(mlflow_client.REQUEST_TAG) == request_id:
            with contextlib.suppress(artifact_location.LocationError, bounded_download.SizeError):
                return _restore(client, version)
    return None


def _restore(client: Any, version: Any) -> RegisteredCandidate:
    source = client.get_run(version.run_id).info.artifact_uri
    artifact_location.check(source, client.tracking_uri)
    with tempfile.TemporaryDirectory(prefix="driftline-run-") as folder:
        bounded_download.download(source, Path(folder), client.tracking_uri, ARTIFACT_BYTES_MAX, ARTIFACT)
        kept = msgspec.json.decode((Path(folder) / ARTIFACT).read_bytes(), type=RegisteredCandidate)
    return with_version(kept, int(version.version))


def with_version(registered: RegisteredCandidate, version: int) -> RegisteredCandidate:
    """Return the candidate with the version that the registry assigned."""
    reference = msgspec.structs.replace(registered.reference, version=version)
    return msgspec.structs.replace(registered, version=version, reference=reference)


class RetrainingRun:
    """The MLflow run of one request. As a context manager it ends the run, as failed after an error."""

    def __init__(self, client: Any, settings: Settings, request: records.RetrainingRequested) -> None:
        """Start the run in the experiment with the model's name."""
        self._client = client
        self._request = request
        tags = {
            mlflow_client.REQUEST_TAG: request.request_id,
            "driftline.trigger": request.trigger,
            "driftline.requested_at_ms": str(request.requested_at_ms),
            "driftline.reason": request.reason,
            "driftline.evidence": ", ".join(alarm.alarm_id for alarm in request.evidence),
        }
        if request.train_from_ms is not None:
            tags["driftline.advised_from_ms"] = str(request.train_from_ms)
        run = client.create_run(
            mlflow_client.experiment_id(client, request.model), run_name=request.request_id, tags=tags
        )
        self.run_id: str = run.info.run_id
        self._info = run.info
        self._settings = settings

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is not None:
            self._client.set_tag(self.run_id, "driftline.error", str(error)[:5000])
        self._client.set_terminated(self.run_id, "FAILED" if kind else "FINISHED")

    def log(
        self,
        candidate: Candidate,
        data: TrainingSet,
        declaration: ModelDeclaration,
        offsets: Mapping[str, list[int]],
        reasons: list[str],
    ) -> None:
        """Log parameters, metrics, the version of the data and the result of the gates, in one request."""
        from mlflow.entities import Metric, Param, RunTag

        now_ms = times.now_ms()
        parameters = {**_parameters(candidate.estimator), "holdout_days": declaration.retraining.holdout_days}
        parameters |= {"refit": declaration.retraining.refit, "rows": data.version.rows}
        parameters["rows_left_out"] = data.left_out
        parameters["rows_of_unknown_definition"] = data.definitions_unknown
        tags = {
            "driftline.data.tables": " ".join(
                f"{name}@{version}" for name, version in data.version.tables.items()
            ),
            "driftline.data.sha256": data.version.sha256,
            "driftline.data.first_event_ms": str(data.version.first_event_ms),
            "driftline.data.last_event_ms": str(data.version.last_event_ms),
            "driftline.data.left_out": ", ".join(
                f"{reason} {count}" for reason, count in data.left_out_by.items() if count
            )
            or "none",
            "driftline.data.offsets": msgspec.json.encode(offsets).decode(),
            "driftline.feature_service": declaration.features.service,
            "driftline.gates": "; ".join(reasons) or "passed",
        }
        self._client.log_batch(
            self.run_id,
            metrics=[Metric(name, value, now_ms, 0) for name, value in metrics_of(candidate).items()],
            params=[Param(name, str(value)) for name, value in parameters.items()],
            tags=[RunTag(name, value) for name, value in tags.items()],
        )

    def register(
        self, candidate: Candidate, declaration: ModelDeclaration, given: Inputs, kept: RegisteredCandidate
    ) -> int:
        """Upload model, plots and the data for the promotion, then register the version; return its number.

        The version is created last, with the request's id as a tag: either everything is there, or a restart
        repeats the training.
        """
        with tempfile.TemporaryDirectory(prefix="driftline-candidate-") as name:
            folder = Path(name)
            tags = registration.seal_estimator(
                self._settings,
                declaration,
                given,
                candidate.estimator,
                candidate.examples,
                folder / registration.FOLDER,
                make_reference=lambda *_: kept.reference,
            )
            plots.save(
                candidate, f"{self._request.model}: {self._request.request_id}", folder / "held_out.png"
            )
            (folder / ARTIFACT).write_bytes(msgspec.json.encode(kept))
            self._client.log_artifacts(self.run_id, str(folder))
        tags[mlflow_client.REQUEST_TAG] = self._request.request_id
        return registration.create(self._client, self._request.model, self._info, tags)


def metrics_of(candidate: Candidate) -> dict[str, float]:
    """Return the metrics on the held-out rows, the champion's with the prefix ``champion_``."""
    champion_metrics = candidate.champion.named("champion_") if candidate.champion else {}
    return candidate.metrics.named() | champion_metrics


def promote(client: Any, declaration: ModelDeclaration, version: int) -> None:
    """Move the alias champion to a version; a second call changes nothing."""
    before = mlflow_client.version_of(client, declaration.name, CHAMPION)
    if before == version:
        return
    if before is not None:
        client.set_registered_model_alias(declaration.name, mlflow_client.PREVIOUS, str(before))
    elif declaration.rollout.keep_first_as_shadow:
        client.set_registered_model_alias(
            declaration.name, declaration.rollout.keep_first_as_shadow, str(version)
        )
    client.set_registered_model_alias(declaration.name, CHAMPION, str(version))


def refuse(client: Any, declaration: ModelDeclaration, version: int) -> None:
    """Move the alias challenger to a candidate that did not pass."""
    client.set_registered_model_alias(declaration.name, mlflow_client.CHALLENGER, str(version))


def _parameters(estimator: Any) -> dict[str, Any]:
    """Return the numbers and texts among the parameters of the last step."""
    last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    simple = {
        name: value
        for name, value in last.get_params(deep=False).items()
        if isinstance(value, int | float | str)
    }
    return {"estimator": type(last).__name__, **simple}
