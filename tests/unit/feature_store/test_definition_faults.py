"""An error of a Feast repository becomes a sentence with file, line and column."""

from pathlib import Path

import pytest

from services.feature_store.definition_faults import STORE_FILE, located, store_faults
from services.feature_store.plan import PlanError
from tests import project


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    project.write(tmp_path)
    return tmp_path / "feature_repo"


def told(folder: Path, error: Exception) -> list[str]:
    with pytest.raises(PlanError) as refused, located(folder):
        raise error
    return str(refused.value).splitlines()


def test_a_fault_of_a_view_has_the_place_of_what_it_names(folder: Path) -> None:
    file = folder / "definitions.py"
    text = "view 'spending': aggregation 'spent_1h': column 'amount' is of no use\nservice 'fraud': is empty"
    lines = project.DEFINITIONS.splitlines()
    first = next(number for number, line in enumerate(lines, 1) if "spent_1h" in line)
    last = next(number for number, line in enumerate(lines, 1) if line.startswith("fraud ="))
    found = told(folder, PlanError(text))
    assert [fault.partition(" ")[0] for fault in found] == [f"{file}:{first}:21:", f"{file}:{last}:1:"]


def test_an_error_without_a_place_names_the_setting_or_else_the_folder(folder: Path) -> None:
    assert told(folder, ValueError("provider 'local' is away")) == [
        f"{folder / STORE_FILE}:2:1: ValueError: provider 'local' is away"
    ]
    assert told(folder, OSError("no\nroom")) == [f"{folder}: OSError: no room"]


def test_settings_that_cannot_be_run_are_all_found(folder: Path) -> None:
    assert store_faults(folder) == []
    path = folder / STORE_FILE
    text = project.STORE.replace("type: redis", "type: sqlite").replace("version: 3", "version: 2")
    path.write_text(text, encoding="utf-8")
    assert [fault.partition(": ")[0] for fault in store_faults(folder)] == [f"{path}:7:3", f"{path}:11:1"]
    path.unlink()
    (fault,) = store_faults(folder)
    assert "no such file" in fault
