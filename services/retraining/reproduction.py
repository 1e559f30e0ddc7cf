"""Trains a registered version again from its run, and compares data and scores."""

import dataclasses
from pathlib import Path
from typing import Any

import msgspec

from services.model_registry import artifact_location, bounded_download, mlflow_client
from services.model_registry.mlflow_client import RegistryError
from services.retraining import mlflow_run
from services.retraining.evidence import Evaluation
from services.retraining.run_folder import (
    CHOICES,
    CONTEXT,
    DATA_VERSION,
    EVALUATION,
    GIVEN_CHOICES,
    RunFolder,
)
from services.retraining.steps import data_steps, model_steps
from services.retraining.steps.definition import run_step
from services.retraining.training_set import DataDescription
from services.runtime.settings import Settings


@dataclasses.dataclass(frozen=True)
class Registered:
    """What the run of a version says of it."""

    data: DataDescription
    evaluation: Evaluation


def fetch(settings: Settings, model: str, version: int, folder: Path) -> tuple[RunFolder, Registered]:
    """Return a run folder in which a version can be trained again, without results; and what they were.

    It reads the versions of the Delta tables that the version was trained on. The champion of then is not
    compared with.

    Raises:
        RegistryError: There is no such version, or no retraining of this version of Driftline made it.
    """
    client = mlflow_client.connect(settings)
    found = _version(client, model, version)
    source = client.get_run(found.run_id).info.artifact_uri
    artifact_location.check(source, client.tracking_uri)
    maximum = mlflow_run.ARTIFACT_BYTES_MAX
    bounded_download.download(source, folder, client.tracking_uri, maximum, mlflow_run.FILES)
    run = RunFolder(folder / mlflow_run.FILES)
    if not all(run.has(name) for name in (*mlflow_run.REPEATED, DATA_VERSION, EVALUATION)):
        raise RegistryError(
            f"{model} version {version}: its run has no files to repeat it with; only versions that were "
            "retrained by this version of Driftline, or a later one, have them"
        )
    known = Registered(run.read(DATA_VERSION, DataDescription), run.read(EVALUATION, Evaluation))
    tables = dict(known.data.version.tables)
    run.write(CONTEXT, msgspec.structs.replace(run.context, tables=tables, champion=None))
    if run.has(CHOICES):  # a search that a time limit has ended finds others on another machine
        (run.path / CHOICES).rename(run.path / GIVEN_CHOICES)
    for name in (DATA_VERSION, EVALUATION):
        run.remove(name)
    return run, known


def _version(client: Any, model: str, version: int) -> Any:
    numbers = []
    for found in client.search_model_versions(f"name='{model}'"):
        if int(found.version) == version:
            return found
        numbers.append(int(found.version))
    known = ", ".join(map(str, sorted(numbers))) or "none"
    raise RegistryError(f"{model} has no version {version}; registered versions: {known}")


def extract(run: RunFolder, settings: Settings) -> DataDescription:
    """Write the training set of the version into its folder, and return what it holds."""
    run_step(data_steps.EXTRACT, run, settings)
    return run.read(DATA_VERSION, DataDescription)


def train(run: RunFolder, settings: Settings) -> Evaluation:
    """Train again on the data that was extracted, and return the measures."""
    for step in (data_steps.VALIDATE, model_steps.TRAIN, model_steps.EVALUATE):
        run_step(step, run, settings)
    return run.read(EVALUATION, Evaluation)


def data_differences(known: DataDescription, found: DataDescription) -> list[str]:
    """Return in words how a training set differs from the known one; empty if both have the same digest."""
    if known.version.sha256 == found.version.sha256:
        return []
    text = f"data: the digest is {found.version.sha256[:12]} instead of {known.version.sha256[:12]}"
    return [f"{text}, with {found.version.rows} rows instead of {known.version.rows}"]


def score_differences(known: Evaluation, found: Evaluation) -> list[str]:
    """Return in words how measures differ from the known ones; empty if all scores are equal."""
    if known.outputs_sha256 == found.outputs_sha256:
        return []
    names = sorted(name for name in known.metrics if known.metrics[name] != found.metrics.get(name))
    changed = [f"{name} {found.metrics.get(name)} instead of {known.metrics[name]}" for name in names]
    return ["scores: some differ", *changed]
