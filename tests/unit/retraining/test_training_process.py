"""A training in a process of its own: its result, its limits, and its end."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from services.retraining.mlflow_run import RegisteredCandidate
from services.retraining.run_folder import REGISTERED, RunFolder
from services.retraining.training_process import Failure, TrainingLimits, TrainingProcess
from services.runtime.settings import Settings
from streams.outages import OutageError
from streams.records import Reference
from tests.waiting import until

LIMITS = TrainingLimits(memory_mib=100_000, minutes=60)
KNOWN = RegisteredCandidate(4, "r", 9, {}, [], Reference(version=4, features=[], score=None, log_loss=0.5))
FORK = multiprocessing.get_context("forkserver")


def register(run: RunFolder, _: Settings) -> None:
    run.write(REGISTERED, KNOWN)


def fail(*_: object) -> None:
    raise ValueError("no such trees")


def lose_mlflow(*_: object) -> None:
    raise OutageError("MLflow is away")


def kill_itself(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def exit_at_once(*_: object) -> None:
    os._exit(3)


def wait(run: RunFolder, _: Settings) -> None:
    run.write("waiting", 1)
    time.sleep(600)  # the test ends it


def result(
    folder: Path, work: Callable[[RunFolder, Settings], None], limits: TrainingLimits = LIMITS
) -> RegisteredCandidate | Failure:
    process = TrainingProcess(FORK, RunFolder(folder), Settings(_env_file=None), limits, work)
    found: list[RegisteredCandidate | Failure] = []

    def has_ended() -> bool:
        outcome = process.result()
        found.extend([] if outcome is None else [outcome])
        return bool(found)

    until(has_ended, "the training has ended")
    return found[0]


def test_a_training_that_ends_has_its_version(tmp_path: Path) -> None:
    assert result(tmp_path, register) == KNOWN


@pytest.mark.parametrize(
    ("work", "failure"),
    [
        (fail, Failure("ValueError: no such trees")),
        (lose_mlflow, Failure("OutageError: MLflow is away", is_outage=True)),
    ],
)
def test_an_error_is_told_with_whether_waiting_helps(
    tmp_path: Path, work: Callable[[RunFolder, Settings], None], failure: Failure
) -> None:
    assert result(tmp_path, work) == failure


@pytest.mark.parametrize(("work", "what"), [(kill_itself, "SIGKILL"), (exit_at_once, "the code 3")])
def test_a_process_that_ends_without_a_word_may_succeed_the_next_time(
    tmp_path: Path, work: Callable[[RunFolder, Settings], None], what: str
) -> None:
    found = result(tmp_path, work)
    assert isinstance(found, Failure)
    assert what in found.reason
    assert found.may_succeed
    assert not found.is_outage


@pytest.mark.parametrize(
    ("limits", "setting"),
    [
        (TrainingLimits(1, 60), "retraining.memory_mib_max"),
        (TrainingLimits(100_000, 1e-9), "retraining.minutes_max"),
    ],
)
def test_a_limit_that_is_hit_is_named_and_final(tmp_path: Path, limits: TrainingLimits, setting: str) -> None:
    found = result(tmp_path, wait, limits)
    assert isinstance(found, Failure)
    assert setting in found.reason
    assert not found.may_succeed


def test_a_training_can_be_ended(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    process = TrainingProcess(FORK, run, Settings(_env_file=None), LIMITS, wait)
    until(lambda: run.has("waiting"), "the work has begun")
    assert process.result() is None
    process.kill()
    assert isinstance(process.result(), Failure)
