"""The REST API with other clients: stock clients of the inference protocol, and a fuzzer of our OpenAPI."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from services.operations.local_servers import ports
from services.operations.local_servers.supervisor import answers_ok
from services.runtime.settings import ROOT
from services.runtime.web import server
from services.scoring.rest import routes
from streams.records import Arm
from tests.tools import absent, tool
from tests.unit.scoring.fakes import HalfOfX, predictor
from tests.waiting import LIVENESS_SECONDS, until

CLIENTS = "mlserver==1.7.1"
"""Includes Triton's client."""
INSTALL_SECONDS_MAX = 600
EVER_MS = -(10**14)
"""Start of the arm, before the year 1: it is in effect at every event time."""


class Probability(HalfOfX):
    """Returns a probability for every x, as a binary model does."""

    def predict(self, columns: dict[str, np.ndarray]) -> Any:
        return np.clip(super().predict(columns), 0.0, 1.0)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of a server with one binary model."""
    port = ports.free_port()
    arm = Arm(name="champion", version=1, weight=10_000, effective_from_ms=EVER_MS)
    served = {"m": predictor(arms=[arm], models={1: Probability()})}
    some = np.arange(4.0)
    for _ in range(8):  # else the first explanations have no background
        served["m"].pipeline.features.recent.add({"x": some, "who": np.array(["a"] * 4, object), "f": some})
    app = server.application(lambda: None, routes.routes(lambda: served))
    with server.serve_in_thread(app, "127.0.0.1", port):
        until(answers_ok("127.0.0.1", port, "/health/live"), "the server listens")
        # The first explanation imports its library, which may take longer than a request may.
        until(lambda: explained(f"http://127.0.0.1:{port}/predict"), "a prediction is explained")
        yield f"127.0.0.1:{port}"


def explained(url: str) -> bool:
    row = {"id": "1", "at": "2026-01-01T00:00:00Z", "x": 0.5, "who": "me"}
    answer = httpx.post(url, json={"model": "m", "rows": [row], "explain": True}, timeout=LIVENESS_SECONDS)
    return answer.status_code == 200


@pytest.fixture(scope="module")
def client_python(pytestconfig: pytest.Config) -> str:
    """An interpreter with the clients, which conflict with our packages; kept in pytest's cache."""
    uv = tool("uv")
    folder = Path(pytestconfig.cache.mkdir("inference-clients"))
    python, installed = folder / "env" / "bin" / "python", folder / "installed.txt"
    if not installed.is_file() or installed.read_text() != CLIENTS:
        make = [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder / "env")]
        fill = [uv, "pip", "install", "--quiet", "--python", str(python), CLIENTS]
        for command in (make, fill):
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS_MAX
            )
            if done.returncode:
                absent(f"the clients cannot be installed here: {done.stderr[-300:]}")
        installed.write_text(CLIENTS)
    return str(python)


def test_stock_clients_of_the_inference_protocol_are_served(address: str, client_python: str) -> None:
    """Triton's client and MLServer's types, both from their own packages, agree with every endpoint."""
    script = ROOT / "tests" / "workers" / "inference_client.py"
    done = subprocess.run(
        [client_python, str(script), address, "m"],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIVENESS_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["triton"] == {
        "healthy": [True, True],
        "ready": [True, True],
        "unknown_ready": False,
        "server": "driftline",
        "versions": ["1"],
        "id": "42",
        "score": [0.6, 0.1],
        "arm": ["champion", "champion"],
        "pinned": "1",
    }
    assert found["mlserver"] == {
        "id": "7",
        "outputs": {
            "score": ["FP64", [1], [0.5]],
            "prediction": ["INT64", [1], [1]],
            "version": ["INT64", [1], [1]],
            "arm": ["BYTES", [1], ["champion"]],
        },
        "described": ["score", "prediction", "version", "arm"],
        "server": "driftline",
        "error": "inputs: all tensors must have the same number of rows, got no tensors",
    }


def test_a_fuzzer_finds_no_difference_to_the_openapi_description(address: str, tmp_path: Path) -> None:
    """Schemathesis with all its checks: statuses, schemas, invalid input rejected, valid input accepted."""
    command = [
        str(Path(sys.executable).parent / "schemathesis"),
        "run",
        f"http://{address}/openapi.json",
        "--checks=all",
        "--max-examples=40",
        "--generation-deterministic",
        "--no-color",
        f"--request-timeout={LIVENESS_SECONDS}",
        f"--max-response-time={LIVENESS_SECONDS}",
    ]
    hooks = os.environ | {"SCHEMATHESIS_HOOKS": "tests.workers.fuzzing", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=600, cwd=tmp_path, env=hooks
    )
    assert done.returncode == 0, done.stdout
    assert "Tested: 2" in done.stdout
