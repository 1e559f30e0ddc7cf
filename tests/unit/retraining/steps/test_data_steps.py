"""The training set of a run: extracted once, read as it was written, and checked."""

from pathlib import Path

import pytest

from services.retraining import archive_progress
from services.retraining.errors import InvalidDataError
from services.retraining.run_folder import DATA_VERSION
from services.retraining.steps import data_steps
from services.retraining.steps.definition import run_step
from services.retraining.training_set import DataDescription
from services.runtime.declaration import HOUR_MS
from services.runtime.settings import Settings
from tests.unit.retraining import runs
from tests.unit.retraining.archived_rows import archive, outcome, prediction
from tests.unit.retraining.training_data import NOW_MS, declaration


def test_the_rows_of_the_archive_are_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, waited = Settings(home=tmp_path), []
    run = runs.prepared(tmp_path, declaration("label", horizon_hours=1000 / HOUR_MS))
    archive(settings, [prediction("a", NOW_MS - 1000, [1.5, "red"])], [outcome("a", NOW_MS - 1000)])
    monkeypatch.setattr(archive_progress, "wait_for_archive", lambda *given: waited.append(given[1:]))
    assert run_step(data_steps.EXTRACT, run, settings)
    data = data_steps.read_all(run)
    assert waited == [("arrival_delay", {})]
    assert (data.features.to_numpy().tolist(), data.labels.tolist()) == ([[1.5, "red"]], [1.0])
    assert run.read(DATA_VERSION, DataDescription).version.tables == {"predictions": 1, "outcomes": 1}


def test_a_set_that_is_not_valid_stops_the_run(tmp_path: Path) -> None:
    declared = declaration(holdout_days=3, minimum_labels=1001)
    with pytest.raises(InvalidDataError, match=r"1000 rows, but retraining\.minimum_labels is 1001"):
        run_step(data_steps.VALIDATE, runs.extracted(tmp_path, declared), Settings())
    assert run_step(data_steps.VALIDATE, runs.extracted(tmp_path), Settings())
