"""The trainings of all models: requests that wait, processes that run, and their results."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext

import structlog
from kafka.errors import KafkaError

from services.model_registry.models_topic import OvertakenError
from services.retraining import run_folder, training_process
from services.retraining.attempts import OpenAttempts
from services.retraining.mlflow_run import RegisteredCandidate
from services.retraining.request_queue import QueuedRequest, RequestQueue
from services.retraining.retrainer import Retrainer, reason_of
from services.retraining.run_folder import RunFolder
from services.retraining.training_process import TrainingLimits, TrainingProcess
from services.runtime.settings import Settings
from streams.outages import is_outage
from streams.records import RetrainingRequested

log = structlog.get_logger()


@functools.cache
def training_server() -> ForkServerContext:
    """Return the server of this process that forks the trainings; its imports begin with the first call."""
    return training_process.server()


def start_training(run: RunFolder, settings: Settings, limits: TrainingLimits) -> TrainingProcess:
    """Start the process of a training."""
    return TrainingProcess(training_server(), run, settings, limits)


@dataclasses.dataclass
class _Running:
    """One training."""

    queued: QueuedRequest
    process: TrainingProcess
    began: float


class Trainings:
    """Begins trainings, one at a time for each model, and finishes them."""

    def __init__(
        self, settings: Settings, queue: RequestQueue, retrainer: Retrainer, commit: Callable[[], None]
    ) -> None:
        """Take the collaborators.

        Args:
            settings: How many trainings run at once.
            queue: The open requests.
            retrainer: Prepares and completes retrainings.
            commit: Called after an attempt was counted, and before it begins.
        """
        self.attempts = OpenAttempts()
        """At the requests that have begun and have no result."""
        self._settings = settings
        self._queue = queue
        self._retrainer = retrainer
        self._commit = commit
        self._running: dict[str, _Running] = {}

    def add(self, offset: int, request: RetrainingRequested) -> None:
        """Take a request, unless it has a result."""
        if self._retrainer.history.is_finished(request.request_id):
            log.info("retraining.repeat", request_id=request.request_id)
            self.attempts = self.attempts.without(offset)  # a kill came between its result and the commit
        else:
            training_server()  # it imports the slow libraries while the request is prepared
            self._queue.add(offset, request)

    def step(self) -> None:
        """Finish what has ended, and begin what is due."""
        for running in list(self._running.values()):
            self._finish(running)
        for queued in self._queue.due(time.monotonic(), self._running):
            if len(self._running) < self._settings.retraining_processes_max:
                self._begin(queued)

    def _begin(self, queued: QueuedRequest) -> None:
        """Start a training, unless its request has a result or must wait."""
        request, attempts = queued.request, self.attempts.of(queued.offset)
        if attempts.are_used_up and self._give_up(
            queued, f"{attempts.begun} attempts failed: {attempts.reason}"
        ):
            return
        if reason := self._retrainer.wait_reason(request):
            self._postpone(queued, reason)
        else:
            self._train(queued)

    def _train(self, queued: QueuedRequest) -> None:
        request = queued.request
        try:
            run = queued.run or self._retrainer.begin(request)
            reason = self._retrainer.archive_reason(run) if isinstance(run, RunFolder) else None
        except Exception as error:
            if not is_outage(error) or isinstance(error, KafkaError):
                raise
            self._postpone(queued, reason_of(error))
            return
        if not isinstance(run, RunFolder):
            self._settled(queued)
            return
        queued.run = run
        if reason:
            self._postpone(queued, reason)
            return
        queued.reason = ""
        self.attempts = self.attempts.noted(self.attempts.of(queued.offset).next())
        self._commit()
        declared = run.declaration.retraining
        limits = TrainingLimits(declared.memory_mib_max, declared.minutes_max)
        process = start_training(run, self._settings, limits)
        self._running[request.model] = _Running(queued, process, time.monotonic())
        log.info("retraining.training", model=request.model, request_id=request.request_id, pid=process.pid)

    def _finish(self, running: _Running) -> None:
        """Write the result of a training that has ended."""
        found = running.process.result()
        if found is None:
            return
        queued, seconds = running.queued, time.monotonic() - running.began
        del self._running[queued.request.model]
        if isinstance(found, RegisteredCandidate):
            self._complete(queued, found, seconds)
            return
        attempts = self.attempts.of(queued.offset)
        if found.is_outage:
            self.attempts = self.attempts.noted(attempts.taken_back())
            self._postpone(queued, found.reason)
        elif found.may_succeed and not attempts.are_used_up:
            self.attempts = self.attempts.noted(attempts.failed(found.reason))
            self._postpone(queued, found.reason)
        else:
            reason = found.reason
            if found.may_succeed:
                reason = f"{attempts.begun} attempts failed: {reason}"
            if not self._give_up(queued, reason, seconds):
                self._postpone(queued, reason)

    def _give_up(self, queued: QueuedRequest, reason: str, seconds: float = 0.0) -> bool:
        """Give a request the result "failed"; return False if a version of it is registered.

        Such a request is completed, however often its process was killed: a version must not stay partly
        promoted. While the registry is away the request waits.
        """
        try:
            if self._retrainer.has_version(queued.request):
                return False
        except Exception as error:
            if not is_outage(error):
                raise
            self._postpone(queued, reason_of(error))
            return True
        self._retrainer.give_up(queued.request, reason, seconds)
        self._settled(queued)
        return True

    def _complete(self, queued: QueuedRequest, found: RegisteredCandidate, seconds: float) -> None:
        try:
            self._retrainer.complete(queued.request, found, seconds)
        except (
            OvertakenError
        ) as error:  # somebody else changes the arms: the version is there, so it is short
            self.attempts = self.attempts.noted(self.attempts.of(queued.offset).taken_back())
            self._postpone(queued, str(error))
            return
        self._settled(queued)
        if queued.run is not None:
            run_folder.remove_old(queued.run)

    def _postpone(self, queued: QueuedRequest, reason: str) -> None:
        if self._queue.postpone(queued, reason, time.monotonic()):
            request = queued.request
            log.warning("retraining.waits", model=request.model, request_id=request.request_id, reason=reason)

    def _settled(self, queued: QueuedRequest) -> None:
        self._queue.remove(queued)
        self.attempts = self.attempts.without(queued.offset)

    def stop(self) -> None:
        """End the trainings, which are begun again later: no attempt is used up."""
        for running in self._running.values():
            running.process.kill()
            attempts = self.attempts.of(running.queued.offset)
            self.attempts = self.attempts.noted(attempts.taken_back())
        self._running.clear()
        with contextlib.suppress(KafkaError):  # without the commit, an attempt is counted too much
            self._commit()
