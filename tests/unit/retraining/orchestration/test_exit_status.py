"""An orchestrator learns from the exit code whether it helps to try again."""

import os

import pytest

from services.retraining.errors import ArchiveBehindError, RetrainingError
from services.retraining.orchestration import exit_status


@pytest.mark.parametrize("error", [ConnectionRefusedError("no broker"), ArchiveBehindError("it is behind")])
def test_what_waiting_can_resolve_ends_with_75(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, exit_status.told():
        raise error
    assert ended.value.code == os.EX_TEMPFAIL == 75
    assert capsys.readouterr().err == f"{type(error).__name__}: {error}\n"


def test_a_fault_ends_with_its_text_and_1() -> None:
    with pytest.raises(SystemExit) as ended, exit_status.told():
        raise RetrainingError("too few rows")
    assert ended.value.code == "too few rows"  # Python prints it and ends with 1


def test_a_defect_keeps_its_stack() -> None:
    with pytest.raises(ZeroDivisionError), exit_status.told():
        raise ZeroDivisionError
