"""One row per REST request: Driftline's scoring process against MLServer and ``mlflow models serve``.

All serve the same logistic regression with one worker each, get the same ten numbers in the request, and
respond with the same score. Driftline is measured at its own route and at the route of the Open Inference
Protocol, which is also MLServer's. A further measurement does what the others cannot: the request has only a
user's id, and the ten numbers are read from the online store. Driftline validates, counts and logs each
request to Kafka. One load generator, in a separate process, calls all servers in turns; then Driftline alone
with one, two and four workers.
"""

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench import environments, processes, report
from bench.report import Figures
from bench.scoring_job import installation
from bench.scoring_job.installation import MODEL, NAMES
from bench.scoring_job.load import EVENT_TIME
from bench.scoring_job.running import COMMAND
from services.operations.local_servers import ports
from services.runtime.settings import Settings
from streams.topics import predictions

CONCURRENCIES = (1, 16)
TURNS, SECONDS = 5, 3.0
READY_SECONDS_MAX = 90.0
SECONDS_MAX = 30.0
FIRST_SECONDS_MAX = 20.0
HOST = "127.0.0.1"
USER = "user-0"
NUMBERS_MODELS = installation.JOB / "models_of_numbers"
NUMBERS_MODEL = "propensity_of_numbers"
OURS, OURS_BY_PROTOCOL, OURS_WITH_STORE = (
    "driftline",
    "driftline, Open Inference Protocol",
    "driftline, features from the store",
)
WORKERS, WORKERS_CONCURRENCY, WORKERS_TURNS = (1, 2, 4), 16, 2


@dataclasses.dataclass(frozen=True)
class Server:
    """One way to serve the model."""

    name: str
    command: list[str]
    """Empty if another entry starts the process."""
    port: int
    path: str
    body: dict[str, Any]
    score: Callable[[Any], float]
    """Returns the score in a response."""


def main() -> None:
    """Measure and report."""
    with installation.installed([predictions(MODEL)]) as (settings, estimator):
        row = _features(settings)
        _register_numbers(settings, estimator)
        ours = _driftline_of_numbers(row)
        servers = [
            *ours,
            _driftline_with_store(settings),
            _mlserver(settings.home / "mlserver", estimator, row),
            _mlflow(settings.home / "mlflow-model", estimator, row),
        ]
        with contextlib.ExitStack() as stack:
            for server in servers:
                if server.command:
                    stack.enter_context(_running(server, settings))
            measures = {
                f"concurrency {concurrency}": _measure_all(servers, concurrency, settings.home)
                for concurrency in CONCURRENCIES
            }
        measures["workers"] = _workers(settings, row)
    ratios = {
        "mlserver": _least(measures, OURS, "mlserver"),
        "mlserver_same_route": _least(measures, OURS_BY_PROTOCOL, "mlserver"),
        "mlflow": _least(measures, OURS, "mlflow"),
    }
    times = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
    notes = f"one row per request, logistic regression; least ratios of one worker each: {times}"
    report.write_measures("rest", measures, ratios, notes)


def _least(measures: Mapping[str, Mapping[str, Figures]], ours: str, peer: str) -> float:
    """Return the smallest ratio of our rate to a peer's, over all concurrencies."""
    raced = [figures for figures in measures.values() if peer in figures]
    return min(each[ours]["requests_per_second"] / each[peer]["requests_per_second"] for each in raced)


def _workers(settings: Settings, row: Sequence[float]) -> dict[str, Figures]:
    """Return the rate of several workers on one port, which share the cores with the load generator."""
    found: dict[str, Figures] = {}
    for workers in WORKERS:
        (server, _) = _driftline_of_numbers(row, "--workers", str(workers))
        with _running(server, settings):
            _load(server, WORKERS_CONCURRENCY, settings.home)  # all workers listen and are warm afterwards
            turns = [_load(server, WORKERS_CONCURRENCY, settings.home)[0] for _ in range(WORKERS_TURNS)]
        found[f"driftline, {workers} worker" + "s" * (workers > 1)] = _medians(turns)
    return found


def _features(settings: Settings) -> list[float]:
    from services.feature_store.online_reader import OnlineReader

    async def read() -> list[float]:
        async with OnlineReader.connect(settings, "profile") as reader:
            served = await reader.read({"user_id": [USER]}, np.array([time.time_ns() // 1_000_000]))
        return [float(served.columns[name][0]) for name in NAMES]

    return asyncio.run(read())


def _register_numbers(settings: Settings, estimator: Any) -> None:
    """Make the same model the champion of a declaration whose features are all in the request."""
    settings = settings.model_copy(update={"models": NUMBERS_MODELS})
    version = installation.register(settings, estimator, NUMBERS_MODEL)
    installation.announce(settings, version, NUMBERS_MODEL)


def _driftline_of_numbers(row: Sequence[float], *options: str) -> list[Server]:
    """Return one process with two routes; the second entry has no command."""
    fields = {"request_id": "request-0", "event_time": EVENT_TIME, **dict(zip(NAMES, row, strict=True))}
    port = ports.free_port()
    environment = ["env", f"DRIFTLINE_MODELS={NUMBERS_MODELS}", f"DRIFTLINE_SCORING_PORT={port}"]
    tensors = [
        {"name": name, "shape": [1], "datatype": "FP64" if name in NAMES else "BYTES", "data": [value]}
        for name, value in fields.items()
    ]
    return [
        Server(
            OURS,
            [*environment, *COMMAND, *options],
            port,
            "/predict",
            {"model": NUMBERS_MODEL, "rows": [fields]},
            lambda response: float(response["predictions"][0]["score"]),
        ),
        Server(
            OURS_BY_PROTOCOL,
            [],
            port,
            f"/v2/models/{NUMBERS_MODEL}/infer",
            {"inputs": tensors, "outputs": [{"name": "score"}]},
            lambda response: float(response["outputs"][0]["data"][0]),
        ),
    ]


def _driftline_with_store(settings: Settings) -> Server:
    row = {"request_id": "request-0", "event_time": EVENT_TIME, "user_id": USER}
    return Server(
        OURS_WITH_STORE,
        COMMAND,
        settings.scoring_port,
        "/predict",
        {"model": MODEL, "rows": [row]},
        lambda response: float(response["predictions"][0]["score"]),
    )


def _mlserver(folder: Path, estimator: Any, row: Sequence[float]) -> Server:
    import joblib

    folder.mkdir()
    joblib.dump(estimator, folder / "model.joblib")
    port = ports.free_port()
    inference = {
        "name": MODEL,
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": "./model.joblib"},
    }
    # Without its separate inference process, which would be a second worker: this is its fastest setup.
    server = {
        "host": HOST,
        "http_port": port,
        "grpc_port": ports.free_port(),
        "metrics_port": ports.free_port(),
        "parallel_workers": 0,
        "debug": False,
    }
    (folder / "model-settings.json").write_text(json.dumps(inference))
    (folder / "settings.json").write_text(json.dumps(server))
    data = {"name": "input", "shape": [1, len(row)], "datatype": "FP64", "data": [list(row)]}
    return Server(
        "mlserver",
        [environments.python_of("mlserver"), "-m", "mlserver.cli.main", "start", str(folder)],
        port,
        f"/v2/models/{MODEL}/infer",
        {"inputs": [data], "outputs": [{"name": "predict_proba"}]},
        lambda response: float(response["outputs"][0]["data"][1]),
    )


def _mlflow(folder: Path, estimator: Any, row: Sequence[float]) -> Server:
    import mlflow.sklearn
    import pandas as pd

    logging.getLogger("mlflow.sklearn").setLevel(logging.ERROR)  # it warns of the format, which we chose
    example = pd.DataFrame([row], columns=NAMES)
    mlflow.sklearn.save_model(
        estimator,
        str(folder),
        signature=mlflow.models.infer_signature(example, estimator.predict_proba(example.to_numpy())),
        pyfunc_predict_fn="predict_proba",
        pip_requirements=["scikit-learn"],
        serialization_format="cloudpickle",
    )
    port = ports.free_port()
    path = f"PATH={Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # its uvicorn is here
    serve = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(folder), "--host", HOST]
    return Server(
        "mlflow",
        ["env", path, *serve, "--port", str(port), "--workers", "1", "--env-manager", "local"],
        port,
        "/invocations",
        {"dataframe_split": {"columns": NAMES, "data": [list(row)]}},
        lambda response: float(response["predictions"][0][1]),
    )


@contextlib.contextmanager
def _running(server: Server, settings: Settings) -> Iterator[None]:
    log_file = settings.home / f"{server.name}.log"
    with processes.running(server.command, log_file) as process:
        deadline = time.monotonic() + READY_SECONDS_MAX
        while not _responds(server):
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"bench: {server.name} did not become ready:\n{log_file.read_text()[-3000:]}")
            time.sleep(0.2)
        yield


def _responds(server: Server) -> bool:
    request = urllib.request.Request(
        f"http://{HOST}:{server.port}{server.path}",
        json.dumps(server.body).encode(),
        {"Content-Type": "application/json"},
    )
    with contextlib.suppress(OSError):
        urllib.request.urlopen(request, timeout=FIRST_SECONDS_MAX)
        return True
    return False


def _measure_all(servers: Sequence[Server], concurrency: int, folder: Path) -> dict[str, Figures]:
    """Call each server in turns; return the medians of the turns."""
    turns: dict[str, list[dict[str, float]]] = {server.name: [] for server in servers}
    scores: dict[str, float] = {}
    for _ in range(TURNS):
        for server in servers:
            figures, scores[server.name] = _load(server, concurrency, folder)
            turns[server.name].append(figures)
    if max(scores.values()) - min(scores.values()) > 1e-9:
        sys.exit(f"bench: the servers differ: {scores}")
    return {name: _medians(each) for name, each in turns.items()}


def _medians(turns: Sequence[Figures]) -> Figures:
    return {figure: statistics.median(turn[figure] for turn in turns) for figure in turns[0]}


def _load(server: Server, concurrency: int, folder: Path) -> tuple[dict[str, float], float]:
    body_file = folder / f"{server.name}.json"
    body_file.write_text(json.dumps(server.body))
    arguments = [HOST, server.port, server.path, body_file, concurrency, SECONDS]
    command = [sys.executable, "-m", "bench.http_load", *map(str, arguments)]
    completed = subprocess.run(command, check=False, stdout=subprocess.PIPE, timeout=SECONDS_MAX)
    if completed.returncode:
        sys.exit(f"bench: the load generator failed with {server.name}")
    result = json.loads(completed.stdout)
    return result, server.score(json.loads(result.pop("response")))


if __name__ == "__main__":
    main()
