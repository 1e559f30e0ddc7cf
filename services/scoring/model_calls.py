"""Calls of one model's versions: in the event loop or on a thread, with the rows at fault found."""

import contextlib
import weakref
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from services.model_registry.contract import Model
from services.scoring.call_timing import CallTiming
from services.scoring.outputs import ModelOutputs, PredictionTask
from services.scoring.scored_batch import FeatureColumns
from services.scoring.thread_limits import ThreadLimits


class ModelCalls:
    """Calls the versions of one model within its thread limits."""

    def __init__(
        self,
        task: PredictionTask,
        threads: ThreadLimits,
        new_timing: Callable[[], CallTiming] = CallTiming,
    ) -> None:
        """Take the model's task and threads; ``new_timing`` makes the timing of a version."""
        self.task = task
        self.threads = threads
        self._new_timing = new_timing
        self._timings: weakref.WeakKeyDictionary[Model, CallTiming] = weakref.WeakKeyDictionary()

    async def predict(
        self, model: Model, columns: FeatureColumns, count: int
    ) -> tuple[ModelOutputs, dict[int, str]]:
        """Return the outputs of n rows and the errors by row.

        Calls the model in the event loop if it is quick (see `services.scoring.call_timing`), else on a
        thread. Raises the model's error if it fails on every row.
        """
        timing = self.timing_of(model)
        if timing.is_quick(count):
            # If it raises, the rows at fault are found on a thread.
            with contextlib.suppress(Exception), timing.measured(count, in_loop=True):
                return self.task.checked(model.predict(columns), count), {}

        def predict() -> tuple[ModelOutputs, dict[int, str]]:
            with timing.measured(count, in_loop=False):
                return predict_isolating(model, self.task, columns)

        return await self.threads.run(predict)

    async def predict_in_background(self, model: Model, columns: FeatureColumns) -> ModelOutputs:
        """Return the outputs of n rows, without a thread that predictions need; raise if any row fails."""
        count = len(next(iter(columns.values())))
        return await self.threads.run_in_background(lambda: self.task.checked(model.predict(columns), count))

    def timing_of(self, model: Model) -> CallTiming:
        """Return the measured calls of a loaded version."""
        timing = self._timings.get(model)
        if timing is None:
            timing = self._timings[model] = self._new_timing()
        return timing


def predict_isolating(
    model: Model, task: PredictionTask, columns: FeatureColumns
) -> tuple[ModelOutputs, dict[int, str]]:
    """Score rows; if the model raises, halve the rows until those at fault are found.

    Returns the outputs (nan for rows at fault) and the errors by row. If the model fails on every row, the
    model is at fault and not its input: then its error is raised.
    """
    count = len(next(iter(columns.values())))
    outputs, errors = task.empty(count), dict[int, str]()
    stack = [np.arange(count)]
    while stack:
        rows = stack.pop()
        try:
            outputs[rows] = task.checked(model.predict(_take(columns, rows)), len(rows))
        except Exception as error:
            if len(rows) == 1:
                errors[int(rows[0])] = f"the model failed: {error!r}"
                if len(errors) == count:
                    raise
                continue
            stack += [rows[len(rows) // 2 :], rows[: len(rows) // 2]]
    return outputs, errors


def _take(columns: FeatureColumns, rows: npt.NDArray[np.int64]) -> FeatureColumns:
    if len(rows) == len(next(iter(columns.values()))):
        return columns
    return {name: column[rows] for name, column in columns.items()}
