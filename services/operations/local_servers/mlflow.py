"""MLflow's tracking server and model registry on this machine, on SQLite, in one process.

Started with the module as a script, it serves MLflow's own application. ``mlflow server`` would import all
of MLflow twice, one after the other (once to read its options, once in a child that serves), and by
default keep eight more processes for jobs, of which Driftline has none: twice the time to start, and
many times the memory.
"""

import os
import sys
from pathlib import Path

from services.operations.local_servers.supervisor import Child, Launch, Supervisor, answers_ok
from streams import garbage

READY_SECONDS_MAX = 240.0
"""Importing MLflow takes 4 s of CPU, without compiled bytecode 12 s; a busy machine multiplies that."""
ARTIFACT_ROOT = "mlflow-artifacts:/"
"""Clients send their artifacts to the server, so that they need not share a disk with it."""

ENVIRONMENT = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}


def start(supervisor: Supervisor, folder: Path, port: int) -> Child:
    """Start a server on 127.0.0.1 with its database and artifacts in ``folder``."""
    folder = folder.resolve()
    (folder / "artifacts").mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", __name__, str(folder), str(port)]
    ready = answers_ok("127.0.0.1", port, "/health")
    return supervisor.start(Launch("mlflow", command, folder / "mlflow.log", ENVIRONMENT, ready))


def serve(folder: Path, port: int) -> None:
    """Serve until SIGTERM. The names of the settings are those that ``mlflow server`` hands to its child."""
    garbage.collect_rarely()
    import uvicorn
    from mlflow.server import constants
    from mlflow.server.handlers import initialize_backend_stores

    database = f"sqlite:///{folder / 'mlflow.db'}"
    os.environ |= {
        constants.BACKEND_STORE_URI_ENV_VAR: database,
        constants.ARTIFACT_ROOT_ENV_VAR: ARTIFACT_ROOT,
        constants.SERVE_ARTIFACTS_ENV_VAR: "true",
        constants.ARTIFACTS_DESTINATION_ENV_VAR: str(folder / "artifacts"),
    }
    # Before the first request: two at once would both create the tables.
    initialize_backend_stores(database, database, ARTIFACT_ROOT)
    uvicorn.run(
        "mlflow.server.fastapi_app:app",
        host="127.0.0.1",
        port=port,
        log_level="warning",
        timeout_graceful_shutdown=2,
    )


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
