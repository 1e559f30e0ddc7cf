"""Whoever trains uses one thread, in the service as by hand: sums in another order change the last bits."""

import os
import subprocess
import sys

import pytest

from services.model_registry.mlflow_client import RegistryError
from services.retraining import reproduce_command, reproduction
from services.runtime import thread_count

ALONE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def test_all_libraries_use_one_thread_unless_a_number_is_set() -> None:
    environment: dict[str, str] = {}
    thread_count.limit(environment)
    assert environment == ALONE
    environment = {"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "2"}
    thread_count.limit(environment)
    assert environment == {"OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "3", "MKL_NUM_THREADS": "2"}


def test_a_version_is_reproduced_with_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*_: object) -> None:
        raise RegistryError("there is no such version")

    monkeypatch.setattr(reproduction, "fetch", fetch)
    for name in ALONE:
        monkeypatch.setenv(name, "7")
        monkeypatch.delenv(name)
    with pytest.raises(SystemExit):
        reproduce_command.reproduce("delays", version=3)
    assert {name: os.environ.get(name) for name in ALONE} == ALONE


def test_commands_that_train_load_no_numpy_before_they_set_it() -> None:
    modules = ("reproduce_command", "step_command", "orchestration.steps_command")
    lines = ["import sys", *(f"import services.retraining.{name}" for name in modules)]
    code = "\n".join([*lines, "sys.exit('numpy' in sys.modules)"])
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
