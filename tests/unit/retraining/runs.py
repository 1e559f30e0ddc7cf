"""Run folders with a synthetic training set, as the step extract leaves them, and a registry in memory."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np

from services.model_registry.model_inputs import InputKind
from services.retraining import run_folder
from services.retraining.run_folder import DATA, DATA_VERSION, RunContext, RunFolder
from services.retraining.training_set import ROW_COLUMNS, DataDescription, ParquetFile, TrainingSet
from services.runtime.declaration import ModelDeclaration, QualityBounds
from tests.unit.retraining import training_data

TRAINING = """
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline


def estimator(categorical, numeric):
    columns = ColumnTransformer([("x", "passthrough", numeric)])
    return Pipeline([("x", columns), ("line", LogisticRegression())])
"""
GIVEN = {"x": InputKind.NUMBER, "colour": InputKind.TEXT}


def prepared(
    folder: Path,
    declared: ModelDeclaration | None = None,
    *,
    champion: int | None = None,
    training: str = TRAINING,
) -> RunFolder:
    """Return a folder that is ready for its first step."""
    run = RunFolder(folder / "run")
    declared = with_nulls(declared or training_data.declaration(holdout_days=3, minimum_labels=100))
    code = folder / "models" / declared.name
    code.mkdir(parents=True, exist_ok=True)
    (code / "training.py").write_text(training)
    context = RunContext(given=GIVEN, champion=champion, code={"version": "1", "git_commit": "abc"})
    request = msgspec.structs.replace(training_data.request(), model=declared.name)
    run_folder.prepare(run, request, declared, context, code)
    return run


def with_nulls(declared: ModelDeclaration) -> ModelDeclaration:
    """Return the declaration with the nulls that the rows have."""
    quality = {"colour": QualityBounds(null_share_max=0.5)}
    return declared.model_copy(
        update={"monitoring": declared.monitoring.model_copy(update={"quality": quality})}
    )


def extracted(
    folder: Path,
    declared: ModelDeclaration | None = None,
    data: TrainingSet | None = None,
    **options: Any,
) -> RunFolder:
    """Return a folder with rows, by default those of `training_data.training_set`."""
    run, data = prepared(folder, declared, **options), data or training_data.training_set()
    with ParquetFile(run.begin(DATA), GIVEN) as file:
        rows = {name: data.rows[name].to_numpy() for name in ROW_COLUMNS}
        file.write(rows, {name: data.features[name].to_numpy() for name in GIVEN})
    run.finish(DATA)
    version = file.version({"predictions": 1, "outcomes": 2})
    run.write(DATA_VERSION, DataDescription(version=version, text=["colour"]))
    return run


class MemoryRegistry:
    """The versions and aliases of one model, and the files of its runs."""

    tracking_uri = "http://mlflow:5000"

    def __init__(self) -> None:
        self.versions: list[Any] = []
        self.aliases: dict[str, str] = {}
        self.files: dict[str, bytes] = {}
        self.logged: dict[str, Any] = {}
        self.ended: list[str] = []
        self.tags: dict[str, str] = {}
        self.run: Any = None
        self.open_runs: list[dict[str, Any]] = []

    def search_model_versions(self, _: str) -> list[Any]:
        return self.versions

    def get_run(self, _: str) -> Any:
        info = SimpleNamespace(run_id="run-1", artifact_uri="mlflow-artifacts:/1/run-1")
        return SimpleNamespace(info=info, data=self.run.data)

    def list_artifacts(self, *_: str) -> list[Any]:
        return []

    def get_experiment_by_name(self, _: str) -> Any:
        return SimpleNamespace(experiment_id="1")

    def search_runs(self, _: list[str], wanted: str) -> list[Any]:
        assert wanted == "attributes.status = 'RUNNING'"
        return [SimpleNamespace(**each) for each in self.open_runs]

    def create_run(self, _: str, **options: Any) -> Any:
        self.tags |= options["tags"]
        return SimpleNamespace(info=SimpleNamespace(run_id="run-1", artifact_uri="mlflow-artifacts:/1/run-1"))

    def set_tag(self, _: str, name: str, value: str) -> None:
        self.tags[name] = value

    def set_terminated(self, _: str, status: str = "FINISHED") -> None:
        self.ended.append(status)

    def log_batch(self, _: str, metrics: Any, params: Any, tags: Any) -> None:
        self.logged = {each.key: each.value for each in (*metrics, *params, *tags)}
        named = {
            name: {each.key: each.value for each in found}
            for name, found in (("metrics", metrics), ("params", params), ("tags", tags))
        }
        self.run = SimpleNamespace(info=SimpleNamespace(run_id="run-1"), data=SimpleNamespace(**named))

    def log_artifact(self, _: str, path: str, folder: str) -> None:
        self.files[f"{folder}/{Path(path).name}"] = Path(path).read_bytes()

    def log_artifacts(self, _: str, path: str) -> None:
        for each in Path(path).rglob("*"):
            if each.is_file():
                self.files[str(each.relative_to(path))] = each.read_bytes()

    def create_registered_model(self, _: str) -> None:
        """Exist."""

    def create_model_version(self, _: str, **options: Any) -> Any:
        version = SimpleNamespace(version=str(len(self.versions) + 1), run_id="run-1", tags=options["tags"])
        self.versions.append(version)
        return version

    def get_model_version_by_alias(self, _: str, alias: str) -> Any:
        from mlflow.exceptions import MlflowException
        from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

        if alias not in self.aliases:
            raise MlflowException("no such alias", RESOURCE_DOES_NOT_EXIST)
        return SimpleNamespace(version=self.aliases[alias])

    def set_registered_model_alias(self, _: str, alias: str, version: str) -> None:
        self.aliases[alias] = version


class ByX:
    """A champion that scores by x alone."""

    size_bytes = 0

    def predict(self, columns: Any) -> Any:
        return 1 / (1 + np.exp(-2 * columns["x"]))
