"""Shadow arms: versions that score every batch without giving predictions.

A `ShadowRun` owns the tasks of one batch. Its holder calls `ShadowRun.scores` or `ShadowRun.cancel`, once;
either ends every task.
"""

import asyncio
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from services.runtime import metrics
from services.scoring.arm_calls import ArmCalls
from services.scoring.load_failures import VersionNotLoadedError
from services.scoring.model_calls import RowErrors
from services.scoring.outputs import PredictionTask
from services.scoring.scored_batch import FeatureColumns
from streams import records

log = structlog.get_logger()


@dataclasses.dataclass(frozen=True, slots=True)
class ShadowOutputs:
    """What a shadow has predicted for n rows; None for a row on which it failed."""

    scores: Sequence[float | None]
    """(n,)."""
    probabilities: Sequence[list[float] | None] = ()
    """(n,): of a multiclass model; empty for other tasks."""
    call_us: int = 0
    """How long the call took."""


class ShadowRun:
    """The shadow arms that score one batch, one task for each arm."""

    def __init__(
        self,
        model: str,
        tasks: Mapping[str, asyncio.Task[ShadowOutputs]],
        wait_seconds: float,
        on_late: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Take the running tasks, by arm, and how long `scores` waits for them.

        ``on_late`` is called with each arm that has not finished by then.
        """
        self._model = model
        self._tasks = tasks
        self._wait_seconds = wait_seconds
        self._on_late = on_late

    @property
    def is_empty(self) -> bool:
        """Whether no shadow scores this batch."""
        return not self._tasks

    async def scores(self, *, wait_for_all: bool = False) -> dict[str, ShadowOutputs]:
        """Return the outputs for n rows, by arm, of the shadows that finish within the declared wait.

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

    def _finished(self) -> dict[str, ShadowOutputs]:
        scores = {}
        for arm, task in self._tasks.items():
            if not task.done():
                metrics.SHADOWS_DROPPED.labels(self._model, arm, "late").inc()
                self._on_late(arm)
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
        by_name = {arm.name: arm for arm in arms}

        def on_late(name: str) -> None:
            self._calls.count_shadow_rows(by_name[name], "late", inputs)

        return ShadowRun(self._model, tasks, self._wait_seconds, on_late)

    async def _score(self, arm: records.Arm, inputs: FeatureColumns) -> ShadowOutputs:
        call = await self._calls.predict_shadow(arm, inputs)
        found = self._task.predictions(call.outputs)
        if call.errors:
            metrics.SHADOW_ROWS_FAILED.labels(self._model, arm.name).inc(len(call.errors))
        return ShadowOutputs(
            _without(found.scores, call.errors),
            _without(found.probabilities, call.errors) if call.outputs.ndim > 1 else (),
            call.microseconds,
        )


def _without(values: Sequence[Any], errors: RowErrors) -> Sequence[Any]:
    """Return the values of n rows, None for those with an error."""
    return [None if row in errors else value for row, value in enumerate(values)] if errors else values
