"""Versions come from a process of their own, which may end at any time, and does not outlive its parent."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import psutil
import pytest

from services.model_registry import registration
from services.model_registry.loading_process import LoadingProcess
from services.model_registry.mlflow_client import RegistryError
from services.model_registry.sklearn_flavour.model import SklearnModel
from services.runtime.settings import Settings
from tests.unit.model_registry.installation import GIVEN, classifier, declaration, rows
from tests.waiting import until

ROW = {"x": np.ones(1), "noise": np.zeros(1)}


@pytest.fixture
def version(settings: Settings, unique_name: str) -> int:
    """A version of a model of the test's name."""
    folder = settings.home / "made"
    folder.mkdir(parents=True)
    own = declaration(name=unique_name)
    tags = registration.seal_estimator(settings, own, GIVEN, classifier(), rows(), folder)
    return registration.register(settings, unique_name, folder, tags)


def children() -> set[psutil.Process]:
    """Return the living processes that load for this one."""
    alive = (each for each in psutil.Process().children() if each.status() != psutil.STATUS_ZOMBIE)
    return {each for each in alive if "spawn_main" in " ".join(each.cmdline())}


def test_version_is_loaded_elsewhere_and_answers_here(
    settings: Settings, version: int, unique_name: str
) -> None:
    """Killed while nothing is loaded, the process is replaced at the next load, unnoticed."""
    before = children()
    process = LoadingProcess()
    own = declaration(name=unique_name)
    first = process.load(settings, own, GIVEN, version)
    assert isinstance(first.model, SklearnModel)
    assert 0.5 < first.model.predict(ROW)[0] < 1
    (child,) = children() - before
    child.kill()
    until(lambda: child.pid not in {each.pid for each in multiprocessing.active_children()}, "it is gone")
    again = process.load(settings, own, GIVEN, version)
    assert again.model.predict(ROW) == first.model.predict(ROW)
    assert again.size_bytes == first.size_bytes > 0


def test_process_that_ends_over_another_version_is_replaced_unnoticed(
    settings: Settings, version: int, unique_name: str
) -> None:
    """A version that was being loaded in it is loaded in another one."""
    before = children()
    process = LoadingProcess()
    own = declaration(name=unique_name)
    process.load(settings, own, GIVEN, version)
    (child,) = children() - before
    child.suspend()  # so that it is in the middle of the load when it ends
    killer = threading.Timer(1, child.kill)
    killer.start()
    assert 0.5 < process.load(settings, own, GIVEN, version).model.predict(ROW)[0] < 1
    assert not killer.is_alive()


def test_version_over_which_each_process_ends_is_told(
    settings: Settings, version: int, unique_name: str
) -> None:
    """As over one that is too large for the machine. Others load from the next process on."""
    before = children()
    process = LoadingProcess()
    own = declaration(name=unique_name)
    told = threading.Event()

    def kill() -> None:
        while not told.wait(0.05):
            for child in children() - before:
                child.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        fault = rf"{unique_name} version {version}: .* crashed the loading process twice"
        with pytest.raises(RegistryError, match=fault):
            process.load(settings, own, GIVEN, version)
    finally:
        told.set()
        killer.join()
    assert 0.5 < process.load(settings, own, GIVEN, version).model.predict(ROW)[0] < 1


def test_fault_of_a_version_is_told_as_where_it_is_loaded_at_once(
    settings: Settings, version: int, unique_name: str
) -> None:
    """The process goes on."""
    process = LoadingProcess()
    own = declaration(name=unique_name)
    with pytest.raises(RegistryError, match=rf"{unique_name} version {version}: .*'noise'"):
        process.load(settings, own, {"x": GIVEN["x"]}, version)
    with pytest.raises(RegistryError, match=rf"{unique_name} version {version + 1}: .*not found"):
        process.load(settings, own, GIVEN, version + 1)
    assert process.load(settings, own, GIVEN, version).model.predict(ROW).shape == (1,)


def test_it_ends_with_its_parent_however_that_ends() -> None:
    """Nothing is left behind a kill -9."""
    code = "import time; from services.model_registry.loading_process import LoadingProcess; "
    code += (
        "process = LoadingProcess(); process.wait_until_started(); print('up', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        left = psutil.Process(parent.pid).children(recursive=True)
        assert left
        os.kill(parent.pid, signal.SIGKILL)
    until(lambda: not any(is_alive(each) for each in left), "the loading process has ended")


def is_alive(process: psutil.Process) -> bool:
    return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
