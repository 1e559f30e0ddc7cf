"""Each retraining runs in its own process, with limits on its memory and time.

The processes are forked from a server that has imported the slow libraries, so none pays for that. One that
is killed ends no other, and the service reads on. It ends with the service, whatever happens to that.
"""

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path

import msgspec
import psutil
import structlog

from services.retraining.mlflow_run import RegisteredCandidate
from services.retraining.run_folder import FAILURE, REGISTERED, RunFolder
from services.retraining.steps import pipeline
from services.runtime import logs
from services.runtime.settings import Settings
from streams.outages import is_outage

_log = structlog.get_logger()

PRELOADED = (
    "skops.io",  # the first, because it searches all modules that are loaded
    "duckdb",
    "matplotlib.figure",
    "mlflow.sklearn",
    "optuna",
    "pandera.pandas",
    "sklearn.ensemble",
    "services.retraining.steps.pipeline",
)
"""Slow libraries of a training; the server leaves out what is not installed. Optuna is of the extra training,
and takes 0.1 s of the 2.5 s of CPU time of all."""
OOM_SCORE = 500
"""Makes the kernel end a training before the service when memory runs out."""
MIB = 1 << 20

Work = Callable[[RunFolder, Settings], object]


class Failure(msgspec.Struct, frozen=True):
    """Why a training has no version."""

    reason: str
    is_outage: bool = False
    """Whether waiting can resolve it."""
    may_succeed: bool = False
    """Whether another attempt may succeed, because the process ended without a result."""


@dataclasses.dataclass(frozen=True)
class TrainingLimits:
    """What a training may take."""

    memory_mib: int
    minutes: float


def server() -> ForkServerContext:
    """Return the context whose server forks the trainings; the server starts, and imports its libraries."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    forkserver.ensure_running()  # it does not wait for the imports, as a first process would
    return context


class TrainingProcess:
    """The steps of one run, in a process that was started."""

    def __init__(
        self,
        context: ForkServerContext,
        run: RunFolder,
        settings: Settings,
        limits: TrainingLimits,
        work: Work = pipeline.run_all,
    ) -> None:
        """Start the process."""
        run.remove(FAILURE)
        self._run = run
        self._limits = limits
        self._began = time.monotonic()
        self._process = context.Process(target=_work, args=(run.path, settings, work), name="training")
        self._process.start()

    @property
    def pid(self) -> int | None:
        """The id of the process."""
        return self._process.pid

    def result(self) -> RegisteredCandidate | Failure | None:
        """Return the result, or None while the process works within its limits."""
        if self._process.is_alive():
            reason = self._exceeded()
            if reason is None:
                return None
            self.kill()
            return Failure(reason)
        self._process.join()
        if self._process.exitcode == 0:
            return self._run.read(REGISTERED, RegisteredCandidate)
        if self._run.has(FAILURE):
            return self._run.read(FAILURE, Failure)
        return Failure(_ended(self._process.exitcode), may_succeed=True)

    def kill(self) -> None:
        """End the process with all that it has started, and wait for its end."""
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(self._process.pid).children(recursive=True)
            for child in children:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
        self._process.kill()
        self._process.join()

    def _exceeded(self) -> str | None:
        minutes = (time.monotonic() - self._began) / 60
        if minutes > self._limits.minutes:
            return (
                f"the training took longer than retraining.minutes_max, {self._limits.minutes:g}: raise it, "
                "or train on fewer rows with retraining.max_rows or max_days"
            )
        used_mib = self._memory_bytes() // MIB
        if used_mib > self._limits.memory_mib:
            return (
                f"the training took {used_mib} MiB, more than retraining.memory_mib_max, "
                f"{self._limits.memory_mib}: raise it, or train on fewer rows with retraining.max_rows"
            )
        return None

    def _memory_bytes(self) -> int:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self._process.pid)
            return sum(_resident(each) for each in (process, *process.children(recursive=True)))
        return 0


def _resident(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.NoSuchProcess):
        return int(process.memory_info().rss)
    return 0


def _ended(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        return f"the process that trains was ended by {name}: check whether there is enough memory"
    return f"the process that trains ended with the code {exit_code}: see the log of retraining"


def _work(path: Path, settings: Settings, work: Work) -> None:
    """Do the work in the new process; say in a file why it failed."""
    threading.Thread(target=_end_with_service, name="watch", daemon=True).start()
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE), encoding="ascii")
    logs.configure_logging("retraining", settings.log_level)
    run = RunFolder(path)
    try:
        work(run, settings)
    except BaseException as error:
        _log.exception("retraining.failed", run=str(path))
        run.write(FAILURE, Failure(f"{type(error).__name__}: {error}", is_outage(error)))
        raise SystemExit(1) from error


def _end_with_service() -> None:
    service = multiprocessing.parent_process()
    assert service is not None, "it was forked by the server"
    service.join()
    os._exit(1)
