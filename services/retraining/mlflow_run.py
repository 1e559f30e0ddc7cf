"""The MLflow side of a retraining: its run, version and aliases."""

import contextlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec
import structlog

from services.model_registry import (
    artifact_location,
    bounded_download,
    mlflow_client,
    model_card,
    model_card_store,
    registration,
)
from services.model_registry.model_card import ModelCard
from services.model_registry.traffic_split import CHAMPION
from services.retraining import version_facts
from services.retraining.evidence import Evaluation
from services.retraining.gates import GateReport
from services.retraining.run_folder import (
    CHOICES,
    CODE,
    CONTEXT,
    DATA_VERSION,
    DECLARATION,
    EVALUATION,
    GATES,
    MODEL_CARD,
    PLOTS,
    REFERENCE,
    REQUEST,
    VALIDATION,
    VALIDATION_PAGE,
    RunFolder,
)
from services.retraining.steps import model_steps
from services.retraining.training_set import DataDescription
from services.runtime import times
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import Settings
from streams import records

ARTIFACT = "candidate.json"
"""The run's file with its `RegisteredCandidate`."""
FILES = "run"
"""Folder of the files of the run folder, among the artifacts of the run."""
REPEATED = (REQUEST, CONTEXT, DECLARATION)
"""What a run is repeated with, besides its code."""
REPORTS = (DATA_VERSION, VALIDATION, VALIDATION_PAGE, CHOICES, EVALUATION, GATES)
COMPARED = {
    "training.py": "driftline.code.training_sha256",
    "rows": "driftline.data.sha256",
    "scores": "driftline.outputs_sha256",
}
"""The tags that tell whether two candidates are the same."""
EVIDENCE = (DATA_VERSION, GATES)
"""What the ledger says of a version: see `services.retraining.ledger_evidence`."""
ARTIFACT_BYTES_MAX = 256 * bounded_download.MIB
"""Maximum size of such a file: a reference of thousands of features has a few MiB."""

_log = structlog.get_logger()


class RegisteredCandidate(msgspec.Struct, frozen=True):
    """A registered candidate with all data for its promotion; stored in its run, so a restart can resume."""

    version: int
    run_id: str
    rows: int
    metrics: dict[str, float]
    reasons: list[str]
    """The reasons for which gates refuse it; empty if it passed."""
    reference: records.Reference
    tables: dict[str, int] = {}
    """Version of each Delta table that it was trained on."""
    differs: list[str] = []
    """In what the folder's candidate differs from this one, which its request has registered before."""


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
    (content,) = _artifacts(client, version.run_id, [ARTIFACT])
    return with_version(msgspec.json.decode(content, type=RegisteredCandidate), int(version.version))


def _artifacts(client: Any, run_id: str, files: Sequence[str]) -> list[bytes]:
    """Return the content of files of a run; raise `LocationError` or `SizeError` if one is not taken."""
    source = client.get_run(run_id).info.artifact_uri
    artifact_location.check(source, client.tracking_uri)
    with tempfile.TemporaryDirectory(prefix="driftline-run-") as folder:
        for file in files:
            bounded_download.download(source, Path(folder), client.tracking_uri, ARTIFACT_BYTES_MAX, file)
        return [(Path(folder) / file).read_bytes() for file in files]


def with_version(registered: RegisteredCandidate, version: int) -> RegisteredCandidate:
    """Return the candidate with the version that the registry assigned."""
    reference = msgspec.structs.replace(registered.reference, version=version)
    return msgspec.structs.replace(registered, version=version, reference=reference)


def restore(client: Any, run: RunFolder) -> RegisteredCandidate | None:
    """Return the candidate of a folder's request as `find`; write its data set and gates into the folder.

    The ledger says of a version what the folder holds, and another machine may have made the version. A run
    of an older Driftline has no such files.
    """
    found = find(client, run.request.model, run.request.request_id)
    if found is not None:
        try:
            _restore_evidence(client, found.run_id, run)
        except (artifact_location.LocationError, bounded_download.SizeError) as error:
            _log.warning("retraining.evidence_unreadable", path=found.run_id, error=repr(error))
    return found


def _restore_evidence(client: Any, run_id: str, run: RunFolder) -> None:
    there = {each.path for each in client.list_artifacts(run_id, FILES)}
    names = [name for name in EVIDENCE if f"{FILES}/{name}" in there]
    contents = _artifacts(client, run_id, [f"{FILES}/{name}" for name in names])
    for name, content in zip(names, contents, strict=True):
        run.write_bytes(name, content)


class RetrainingRun:
    """The MLflow run of one request. As a context manager it ends the run, as failed after an error."""

    def __init__(self, client: Any, settings: Settings, request: records.RetrainingRequested) -> None:
        """Start the run in the experiment with the model's name; end those of a process that was killed."""
        self._client = client
        end_open_runs(client, request)
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

    def upload_reports(self, run: RunFolder) -> None:
        """Upload what the run is repeated with, and what its steps report."""
        for name in (*REPEATED, *REPORTS):
            if run.has(name):
                self._client.log_artifact(self.run_id, str(run.path / name), FILES)
        for path in run.code_files():
            self._client.log_artifact(self.run_id, str(path), f"{FILES}/{CODE}")

    def log(self, run: RunFolder) -> None:
        """Log parameters, metrics, the versions of data and code and the result of the gates."""
        from mlflow.entities import Metric, Param, RunTag

        now_ms = times.now_ms()
        found = run.read(EVALUATION, Evaluation).named()
        tags, candidate = tags_of(run), model_steps.estimators(run).candidate
        parameters = version_facts.parameters(run, candidate)
        self._client.log_batch(
            self.run_id,
            metrics=[Metric(name, value, now_ms, 0) for name, value in found.items()],
            params=[Param(name, value) for name, value in parameters.items()],
            tags=[RunTag(name, value) for name, value in tags.items()],
        )

    def register(self, run: RunFolder, kept: RegisteredCandidate) -> int:
        """Upload model, card, plots and the data for the promotion, register the version; return its number.

        The version is created last, with the request's id as a tag: either everything is there, or a restart
        repeats this step.
        """
        fitted, declaration = model_steps.estimators(run), run.declaration
        with tempfile.TemporaryDirectory(prefix="driftline-candidate-") as name:
            folder = Path(name)
            tags = registration.seal_estimator(
                self._settings,
                declaration,
                run.context.given,
                fitted.released,
                model_steps.examples(run),
                folder / registration.FOLDER,
                make_reference=lambda *_: kept.reference,
            )
            (folder / ARTIFACT).write_bytes(msgspec.json.encode(kept))
            shutil.copytree(run.path / PLOTS, folder / PLOTS)
            (folder / model_card_store.FOLDER).mkdir()
            signed = {name: tags[name] for name in mlflow_client.SIGNED_TAGS}
            card = model_card.with_tags(run.read(MODEL_CARD, ModelCard), signed)
            model_card_store.write(card, folder / model_card_store.FOLDER)
            self._client.log_artifacts(self.run_id, str(folder))
        self.upload_reports(run)
        tags[mlflow_client.REQUEST_TAG] = self._request.request_id
        return registration.create(self._client, self._request.model, self._info, tags)


def register(mlflow: RetrainingRun, run: RunFolder) -> RegisteredCandidate:
    """Register the candidate of a folder in a run that was begun."""
    mlflow.log(run)
    kept = RegisteredCandidate(
        version=0,  # assigned by the registry
        run_id=mlflow.run_id,
        rows=run.read(DATA_VERSION, DataDescription).version.rows,
        metrics=run.read(EVALUATION, Evaluation).named(),
        reasons=run.read(GATES, GateReport).reasons,
        reference=run.read(REFERENCE, records.Reference),
        tables=dict(run.read(DATA_VERSION, DataDescription).version.tables),
    )
    return with_version(kept, mlflow.register(run, kept))


def end_open_runs(client: Any, request: records.RetrainingRequested, registered: str = "") -> None:
    """End the runs of a request that its process left open when it was killed.

    The run of the registered version, ``registered``, has finished: nothing followed but its end.
    """
    experiment = client.get_experiment_by_name(request.model)
    if experiment is None:
        return
    for run in client.search_runs([experiment.experiment_id], "attributes.status = 'RUNNING'"):
        if run.data.tags.get(mlflow_client.REQUEST_TAG) == request.request_id:
            run_id = run.info.run_id
            client.set_terminated(run_id, "FINISHED" if run_id == registered else "KILLED")


def tags_of(run: RunFolder) -> dict[str, str]:
    """Return the tags that tell on what, with what and against what the candidate was trained."""
    evaluation = run.read(EVALUATION, Evaluation)
    return {
        **version_facts.data_tags(run),
        "driftline.feature_service": run.declaration.features.service,
        "driftline.champion": str(evaluation.champion_version or "none"),
        "driftline.outputs_sha256": evaluation.outputs_sha256,
        "driftline.gates": "; ".join(run.read(GATES, GateReport).reasons) or "passed",
        **version_facts.code_tags(run),
    }


def differences(client: Any, run_id: str, own: Mapping[str, str]) -> list[str]:
    """Return in words in what a candidate with these tags differs from that of a run; see `tags_of`."""
    known = client.get_run(run_id).data.tags
    return [what for what, tag in COMPARED.items() if tag in known and known[tag] != own[tag]]


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


def make_challenger(client: Any, declaration: ModelDeclaration, version: int) -> None:
    """Move the alias challenger to a candidate that is not the champion, or not yet."""
    client.set_registered_model_alias(declaration.name, mlflow_client.CHALLENGER, str(version))
