import sys
from pathlib import Path

from services.operations.local_servers import mlflow, ports
from services.operations.local_servers.supervisor import Launch
from tests.unit.operations.local_servers.recorded import RecordingSupervisor


def launched(folder: Path) -> Launch:
    supervisor = RecordingSupervisor()
    mlflow.start(supervisor, folder, ports.free_port())
    (launch,) = supervisor.started
    return launch


def test_it_serves_with_this_interpreter_and_keeps_its_files_in_the_folder(tmp_path: Path):
    launch = launched(tmp_path / "mlflow")
    assert launch.command[:3] == [sys.executable, "-m", "services.operations.local_servers.mlflow"]
    assert launch.command[3] == str(tmp_path / "mlflow")
    assert (tmp_path / "mlflow" / "artifacts").is_dir()


def test_it_reports_nothing_to_others_and_runs_no_jobs(tmp_path: Path):
    environment = launched(tmp_path).environment
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


def test_it_is_not_ready_while_nothing_answers(tmp_path: Path):
    assert launched(tmp_path).ready() is False
