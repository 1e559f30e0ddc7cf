"""Calls of one model's versions: in the event loop or on a thread, with the rows at fault found."""

import contextlib
import time
import weakref
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from services.model_registry import golden_batch
from services.model_registry.contract import LoadedVersion, Model
from services.model_registry.input_format import RowsError
from services.scoring.call_timing import CallTiming
from services.scoring.outputs import ModelOutputs, PredictionTask
from services.scoring.scored_batch import FeatureColumns
from services.scoring.thread_limits import ThreadLimits
from streams.defects import panics_as_errors

RowErrors = dict[int, str]
"""Why the model failed on a row, by row."""


class ModelCall(NamedTuple):
    """What a call of a version with n rows has given."""

    outputs: ModelOutputs
    """nan for rows at fault."""
    errors: RowErrors
    seconds: float
    """Elapsed time of the call, without waiting for a thread."""

    @property
    def microseconds(self) -> int:
        """The elapsed time as prediction records hold it."""
        return min(round(self.seconds * 1e6), 2**31 - 1)


class ModelExitError(RuntimeError):
    """A model tried to end the process."""


class RefusedRow(str):
    """Why a version cannot get a row: the request is at fault, and the model was not asked."""

    __slots__ = ()


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

    async def predict(self, version: LoadedVersion, columns: FeatureColumns, count: int) -> ModelCall:
        """Return the outputs of n rows and the errors by row, as `predict_isolating`.

        Calls the model in the event loop if it is quick (see `services.scoring.call_timing`), else on a
        thread.
        """
        timing = self.timing_of(version.model)
        if timing.is_quick(count):
            # If it raises, the rows at fault are found on a thread.
            with contextlib.suppress(Exception), timing.measured(count, in_loop=True):
                start_seconds = time.perf_counter()
                outputs = self.task.checked(_predict(version.model, columns), count)
                return ModelCall(outputs, {}, time.perf_counter() - start_seconds)

        def predict() -> ModelCall:
            with timing.measured(count, in_loop=False):
                return self._isolating(version, columns)

        return await self.threads.run(predict)

    async def predict_in_background(self, version: LoadedVersion, columns: FeatureColumns) -> ModelCall:
        """Do the same without a thread that predictions need."""
        return await self.threads.run_in_background(self._isolating, version, columns)

    def _isolating(self, version: LoadedVersion, columns: FeatureColumns) -> ModelCall:
        start_seconds = time.perf_counter()
        outputs, errors = predict_isolating(version, self.task, columns)
        return ModelCall(outputs, errors, time.perf_counter() - start_seconds)

    def timing_of(self, model: Model) -> CallTiming:
        """Return the measured calls of a loaded version."""
        timing = self._timings.get(model)
        if timing is None:
            timing = self._timings[model] = self._new_timing()
        return timing


def predict_isolating(
    version: LoadedVersion, task: PredictionTask, columns: FeatureColumns
) -> tuple[ModelOutputs, RowErrors]:
    """Score rows; if the model raises, halve the rows until those at fault are found.

    Returns the outputs (nan for rows at fault) and the errors by row. The golden batch tells who is at fault,
    for one row as for many: if the model still repeats it, the rows are. Raises
    `services.model_registry.golden_batch.GoldenError` if it does not: then the version is at fault.
    """
    count = len(next(iter(columns.values())))
    outputs, errors = task.empty(count), RowErrors()
    stack = [np.arange(count)]
    is_proven = version.batch is None
    while stack:
        rows = stack.pop()
        try:
            outputs[rows] = task.checked(_predict(version.model, _take(columns, rows)), len(rows))
        except RowsError as error:  # the version says itself which rows it cannot get
            errors |= {int(rows[row]): RefusedRow(reason) for row, reason in error.reasons.items()}
            if len(error.reasons) < len(rows):
                stack.append(np.delete(rows, list(error.reasons)))
        except Exception as error:  # noqa: BLE001  # each row at fault gets its reason
            if not is_proven and version.batch is not None:
                golden_batch.verify(version.batch, version.model)
                is_proven = True
            if len(rows) == 1:
                errors[int(rows[0])] = f"the model failed: {error!r}"
            else:
                stack += [rows[len(rows) // 2 :], rows[: len(rows) // 2]]
    return outputs, errors


def _predict(model: Model, columns: FeatureColumns) -> ModelOutputs:
    """Call a model; whatever it raises is an `Exception`."""
    try:
        with panics_as_errors():
            return model.predict(columns)
    except SystemExit as error:
        raise ModelExitError(repr(error)) from error


def _take(columns: FeatureColumns, rows: npt.NDArray[np.int64]) -> FeatureColumns:
    if len(rows) == len(next(iter(columns.values()))):
        return columns
    return {name: column[rows] for name, column in columns.items()}
