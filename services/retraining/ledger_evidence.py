"""What a run folder tells the ledger: the data set of a retraining, and what its gates found."""

from typing import Any

import msgspec
import structlog

from services.model_registry.gate_results import GateReport, GateResult
from services.retraining import run_folder
from services.retraining.run_folder import DATA_VERSION, GATES, Decoded, RunFolder
from services.retraining.training_set import DataDescription
from services.runtime.settings import Settings

_log = structlog.get_logger()


def of_run(settings: Settings, model: str, request_id: str) -> tuple[dict[str, Any] | None, list[GateResult]]:
    """Return the data set of a request and the results of its gates, as far as the run got.

    A file that cannot be read is left out with a warning: the request ends all the same.
    """
    run = run_folder.of_request(settings, model, request_id)
    data = _content(run, DATA_VERSION, DataDescription)
    report = _content(run, GATES, GateReport)
    return None if data is None else data_set_of(data), [] if report is None else report.results


def data_set_of(data: DataDescription) -> dict[str, Any]:
    """Return what the ledger says of a training set."""
    counts = {"left_out": data.left_out, "left_out_by": data.left_out_by, "immature": data.immature}
    return {**msgspec.to_builtins(data.version), **counts}


def _content(run: RunFolder, name: str, kind: type[Decoded]) -> Decoded | None:
    try:
        return run.read(name, kind) if run.has(name) else None
    except (OSError, msgspec.MsgspecError) as error:
        _log.warning("retraining.evidence_unreadable", path=str(run.path / name), error=repr(error))
        return None
