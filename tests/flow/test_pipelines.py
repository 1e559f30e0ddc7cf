"""DVC and Prefect run the steps of a retraining and get the version that the service makes."""

import ast
import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.archive import row_schemas
from services.model_registry import mlflow_client
from services.operations.local_servers import mlflow as mlflow_server
from services.operations.local_servers import ports
from services.operations.local_servers.supervisor import Launch, Supervisor, answers_ok
from services.retraining import retrain_command
from services.retraining.mlflow_run import RegisteredCandidate
from services.retraining.orchestration import exit_status
from services.retraining.run_folder import REGISTERED, RunFolder
from services.retraining.steps import pipeline
from services.runtime.settings import ROOT
from streams import records, topics
from streams.records import RetrainingFinished
from tests import pipeline_tools
from tests.flow.learning import Model, World, follow
from tests.unit.retraining import archived_rows
from tests.waiting import LIVENESS_SECONDS, until

FLOW = ROOT / "services" / "retraining" / "orchestration" / "prefect_flow.py"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables with which DVC and Prefect run here."""
    return os.environ | {
        "PATH": pipeline_tools.search_path(),
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(tmp_path_factory.mktemp("dvc")),
        "PREFECT_HOME": str(tmp_path_factory.mktemp("prefect")),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }


@pytest.fixture(scope="module")
def prefect(servers: Supervisor, environment: dict[str, str]) -> str:
    """The URL of the API of a real Prefect server, on SQLite."""
    port = ports.free_port()
    launch = Launch(
        name="prefect",
        command=["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
        log=Path(environment["PREFECT_HOME"]) / "server.log",
        environment=environment,
        ready=answers_ok("127.0.0.1", port, "/api/health"),
    )
    servers.wait_ready(servers.start(launch), seconds=LIVENESS_SECONDS)
    return f"http://127.0.0.1:{port}/api"


class Shell:
    """Runs commands with the settings of a world of one model, whose archive holds rows with labels."""

    def __init__(self, world: World, environment: dict[str, str]) -> None:
        self.world = world
        self.model: Model = world.model()
        self.environment = environment | world.settings.environment()
        topic = topics.predictions(self.model.name)
        predictions, outcomes = zip(*self.model.history(), strict=True)
        archived_rows.write(world.settings, row_schemas.PREDICTIONS, topic, list(predictions))
        topic = topics.outcomes(self.model.name)
        archived_rows.write(world.settings, row_schemas.OUTCOMES, topic, list(outcomes))

    def __call__(self, *command: str | Path, folder: Path = ROOT, code: int = 0) -> str:
        """Return the output of a command that ends with this exit code."""
        found = subprocess.run(
            [*map(str, command)], cwd=folder, env=self.environment, text=True, timeout=LIVENESS_SECONDS,
            check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert found.returncode == code, f"{command}\n{found.stdout}"
        return found.stdout

    def client(self) -> Any:
        """Return a client of MLflow."""
        return mlflow_client.connect(self.world.settings)

    def prepare(self, request_id: str) -> RunFolder:
        """Return the folder of a request."""
        arguments = (self.model.name, "--request-id", request_id)
        return RunFolder(Path(self("driftline", "retraining", "prepare", *arguments).splitlines()[-1]))

    def repro(self, run: RunFolder, *arguments: str) -> list[str]:
        """Return the stages that ``dvc repro`` runs."""
        output = self("dvc", "repro", *arguments, folder=run.path)
        return re.findall(r"Running stage '(\w+)'", output)

    def change(self, text: str, other: str) -> None:
        """Change the model's own files."""
        for path in self.model.script.parent.iterdir():
            path.write_text(path.read_text().replace(text, other))

    def result(self, request_id: str) -> RetrainingFinished:
        """Return the result of a request."""

        def wanted(record: records.RetrainingRecord) -> bool:
            return isinstance(record, RetrainingFinished) and record.request_id == request_id

        broker = self.world.settings.broker
        found: RetrainingFinished = next(
            follow(broker, topics.RETRAINING.name, records.RetrainingRecord, wanted)
        )
        return found


@contextlib.contextmanager
def shell_of(kafka: str, mlflow_uri: str, folder: Path, environment: dict[str, str]) -> Iterator[Shell]:
    with World(kafka, mlflow_uri, folder) as world:
        yield Shell(world, environment)


def task_runs(api: str, model: str) -> list[dict[str, Any]]:
    """Return the task runs of all runs of the flow for a model, in the order of their start."""
    flows = httpx.post(f"{api}/flow_runs/filter", json={}, timeout=LIVENESS_SECONDS).json()
    ids = [each["id"] for each in flows if each["parameters"]["model"] == model]
    wanted = {"flow_runs": {"id": {"any_": ids}}, "sort": "EXPECTED_START_TIME_ASC"}
    found: list[dict[str, Any]] = httpx.post(
        f"{api}/task_runs/filter", json=wanted, timeout=LIVENESS_SECONDS
    ).json()
    return found


def names_of(runs: list[dict[str, Any]], state: str) -> list[str]:
    return [each["name"] for each in runs if each["state_name"] == state]


def test_dvc_runs_only_what_has_changed(kafka: str, tmp_path: Path, environment: dict[str, str]) -> None:
    """Without a registry: no step before the registration needs one, if no version serves."""
    with shell_of(kafka, "http://127.0.0.1:9", tmp_path, environment) as shell:
        run = shell.prepare("changes")
        shell("driftline", "retraining", "dvc", "--run", run.path)
        shell("dvc", "init", "--no-scm", folder=run.path)
        assert shell.repro(run, "gate") == ["extract", "validate", "train", "evaluate", "gate"]
        assert shell.repro(run, "gate") == []

        shell.change("max_iter=20", "max_iter=10")
        shell.prepare("changes")
        assert shell.repro(run, "gate") == ["train", "evaluate", "gate"]
        shell.change("margin: 0.0", "margin: 0.001")
        shell.prepare("changes")
        assert shell.repro(run, "gate")[-1] == "gate"
        assert not (run.path / ".dvc" / "cache").exists()


def test_a_folder_without_a_request_or_a_version_says_what_to_do(
    kafka: str, tmp_path: Path, environment: dict[str, str]
) -> None:
    with shell_of(kafka, "http://127.0.0.1:9", tmp_path, environment) as shell:
        empty = "'driftline retraining prepare' makes one"
        for command in (["dvc"], ["submit"], ["step", "train"]):
            assert empty in shell("driftline", "retraining", *command, "--run", tmp_path, code=1)
        run = shell.prepare("early")
        assert "run the steps first" in shell("driftline", "retraining", "submit", "--run", run.path, code=1)
        assert "there is no model 'absent'" in shell("driftline", "retraining", "prepare", "absent", code=1)
        assert "needs data.parquet" in shell(
            "driftline", "retraining", "step", "validate", "--run", run.path, code=1
        )


def test_dvc_prefect_and_the_service_make_the_same_version_once(
    kafka: str, servers: Supervisor, prefect: str, tmp_path: Path, environment: dict[str, str]
) -> None:
    """Prefect begins while MLflow is away."""
    port = ports.free_port()
    with shell_of(kafka, f"http://127.0.0.1:{port}", tmp_path, environment) as shell:
        model = shell.model.name
        ids = {by: f"{model}-{by}" for by in ("prefect", "dvc", "service")}
        runs = {by: shell.prepare(request_id) for by, request_id in ids.items()}  # all without a champion

        shell.environment["PREFECT_API_URL"] = prefect
        python = pipeline_tools.FOLDER / "bin" / "python"
        with subprocess.Popen(
            [python, FLOW, model, ids["prefect"], "driftline", "1"], env=shell.environment
        ) as flow:
            until(lambda: bool(names_of(task_runs(prefect, model), "AwaitingRetry")), "Prefect waits",
                  check=lambda: assert_runs(flow))  # fmt: skip
            assert names_of(task_runs(prefect, model), "AwaitingRetry") == ["step register"]
            child = mlflow_server.start(servers, tmp_path / "mlflow", port)
            servers.wait_ready(child, seconds=LIVENESS_SECONDS)
            assert flow.wait(LIVENESS_SECONDS) == 0
        tasks = task_runs(prefect, model)
        steps = [f"step {step.name}" for step in pipeline.STEPS]
        assert sorted(names_of(tasks, "Completed")) == sorted([f"prepare {model}", *steps, "submit --run"])
        assert [each["name"] for each in tasks if each["run_count"] > 1] == ["step register"]

        shell("driftline", "retraining", "dvc", "--run", runs["dvc"].path)
        shell("dvc", "init", "--no-scm", folder=runs["dvc"].path)
        assert shell.repro(runs["dvc"]) == [step.name for step in pipeline.STEPS]
        shell("driftline", "retraining", "submit", "--run", runs["dvc"].path)
        retrain_command.publish(shell.world.settings, runs["service"].request)
        shell.world.start("retraining")
        results = {by: shell.result(request_id) for by, request_id in ids.items()}

        assert {by: each.result for by, each in results.items()} == dict.fromkeys(ids, "promoted")
        made = {by: run.read(REGISTERED, RegisteredCandidate).version for by, run in runs.items()}
        assert made == {by: each.version for by, each in results.items()}
        assert sorted(made.values()) == [1, 2, 3]
        contents = {content_of(shell, each) for each in results.values()}
        assert len(contents) == 1, contents

        shutil.rmtree(runs["service"].path)
        shell("driftline", "retraining", "run", model, "--request-id", ids["service"])
        assert runs["service"].read(REGISTERED, RegisteredCandidate).version == made["service"]
        assert len(shell.client().search_model_versions(f"name='{model}'")) == 3


def assert_runs(process: subprocess.Popen[bytes]) -> None:
    assert process.poll() is None, "the flow has ended"


def content_of(shell: Shell, finished: RetrainingFinished) -> tuple[str, ...]:
    """Return digests of the data and of the outputs of a version."""
    tags = shell.client().get_run(finished.run_id).data.tags
    return tuple(tags[f"driftline.{name}"] for name in ("data.sha256", "outputs_sha256"))


def test_prefect_does_not_repeat_a_fault(
    kafka: str, prefect: str, tmp_path: Path, environment: dict[str, str]
) -> None:
    with shell_of(kafka, "http://127.0.0.1:9", tmp_path, environment) as shell:
        shell.change("minimum_labels: 500", "minimum_labels: 5000")
        shell.environment["PREFECT_API_URL"] = prefect
        python = pipeline_tools.FOLDER / "bin" / "python"
        assert "retraining.minimum_labels is 5000" in shell(python, FLOW, shell.model.name, code=1)
        tasks = task_runs(prefect, shell.model.name)
        assert [each["run_count"] for each in tasks] == [1, 1, 1]
        assert names_of(tasks, "Failed") == ["step validate"]


def test_the_flow_names_all_steps_and_the_exit_code_of_an_outage() -> None:
    """It imports no module of Driftline."""
    tree = ast.parse(FLOW.read_text(encoding="utf-8"))
    values = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    assert ast.literal_eval(values["STEPS"]) == tuple(step.name for step in pipeline.STEPS)
    assert ast.unparse(values["OUTAGE"]) == "os.EX_TEMPFAIL"
    assert exit_status.OUTAGE == os.EX_TEMPFAIL
