"""The ledger gets what the run folder of a request holds, however far it got."""

from pathlib import Path

from structlog.testing import capture_logs

from services.model_registry.gate_results import GateReport, GateResult
from services.retraining import ledger_evidence, run_folder
from services.retraining.run_folder import DATA_VERSION, GATES
from services.retraining.training_set import DataDescription, DataVersion
from services.runtime.settings import Settings

VERSION = DataVersion(tables={"predictions": 3}, sha256="d", rows=100, first_event_ms=1, last_event_ms=2)


def test_data_set_and_gates_of_a_whole_run(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    run = run_folder.of_request(settings, "m", "r")
    run.write(DATA_VERSION, DataDescription(version=VERSION, text=[], left_out=7))
    gate = GateResult("champion", "passed", "better")
    run.write(GATES, GateReport([gate]))
    data_set, gates = ledger_evidence.of_run(settings, "m", "r")
    assert data_set is not None
    assert (data_set["sha256"], data_set["tables"], data_set["left_out"]) == ("d", {"predictions": 3}, 7)
    assert gates == [gate]


def test_request_that_was_refused_has_no_run(tmp_path: Path) -> None:
    assert ledger_evidence.of_run(Settings(home=tmp_path), "m", "r") == (None, [])


def test_file_that_cannot_be_read_is_left_out_with_a_warning(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    run_folder.of_request(settings, "m", "r").write(GATES, {"results": 7})
    with capture_logs() as logs:
        assert ledger_evidence.of_run(settings, "m", "r") == (None, [])
    assert logs[0]["event"] == "retraining.evidence_unreadable"
