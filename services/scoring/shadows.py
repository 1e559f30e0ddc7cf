"""Shadow arms: versions that score every batch without giving predictions.

A `ShadowRun` owns the tasks of one batch. Its holder calls `ShadowRun.scores` or `ShadowRun.cancel`, once;
either ends every task.
"""

import asyncio
from collections.abc import Mapping, Sequence

import structlog

from services.runtime import metrics
from services.scoring.arm_calls import ArmCalls
from services.scoring.load_failures import VersionNotLoadedError
from services.scoring.outputs import PredictionTask
from services.scoring.scored_batch import FeatureColumns
from streams import records

log = structlog.get_logger()

Scores = list[float | None]
"""(n,): None for a row on which the shadow failed."""


class ShadowRun:
    """The shadow arms that score one batch, one task for each arm."""

    def __init__(self, model: str, tasks: Mapping[str, asyncio.Task[Scores]], wait_seconds: float) -> None:
        """Take the running tasks, by arm, and how long `scores` waits for them."""
        self._model = model
        self._tasks = tasks
        self._wait_seconds = wait_seconds

    @property
    def is_empty(self) -> bool:
        """Whether no shadow scores this batch."""
        return not self._tasks

    async def scores(self, *, wait_for_all: bool = False) -> dict[str, Scores]:
        """Return the scores (n,) by arm of the shadows that finish within the declared wait.

        With ``wait_for_all``, wait without a limit. A shadow that cannot score or is late is counted and left
        out: it never affects the prediction.
        """
        if not self._tasks:
            return {}
        try:
            timeout = None if wait_for_all else self._wait_seconds
            await asyncio.wait(self._tasks.values(), timeout=timeout)
            return self._finished()
        finally:
            self.cancel()

    def cancel(self) -> None:
        """Cancel the shadows that have not finished."""
        for task in self._tasks.values():
            task.cancel()

    def _finished(self) -> dict[str, Scores]:
        scores = {}
        for arm, task in self._tasks.items():
            if not task.done():
                metrics.SHADOWS_DROPPED.labels(self._model, arm, "late").inc()
            elif error := task.exception():
                metrics.SHADOWS_DROPPED.labels(self._model, arm, "failed").inc()
                if not isinstance(error, VersionNotLoadedError):  # which was logged when it failed
                    log.warning("shadow.failed", model=self._model, arm=arm, error=repr(error))
            else:
                scores[arm] = task.result()
        return scores


NO_SHADOWS = ShadowRun("", {}, 0.0)


class ShadowArms:
    """Starts the shadow arms of one model."""

    def __init__(self, model: str, calls: ArmCalls, task: PredictionTask, wait_seconds: float) -> None:
        """Take how the model's versions are called, and how long a prediction record waits for shadows."""
        self._model = model
        self._calls = calls
        self._task = task
        self._wait_seconds = wait_seconds

    def start(self, arms: Sequence[records.Arm], inputs: FeatureColumns) -> ShadowRun:
        """Score a batch with each of these arms."""
        if not arms:
            return NO_SHADOWS
        tasks = {arm.name: asyncio.create_task(self._score(arm, inputs)) for arm in arms}
        return ShadowRun(self._model, tasks, self._wait_seconds)

    async def _score(self, arm: records.Arm, inputs: FeatureColumns) -> Scores:
        outputs, errors = await self._calls.predict_shadow(arm.version, inputs)
        scores: Scores = [*self._task.predictions(outputs).scores]
        if errors:
            metrics.SHADOW_ROWS_FAILED.labels(self._model, arm.name).inc(len(errors))
            for row in errors:
                scores[row] = None
        return scores
