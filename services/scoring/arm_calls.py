"""Calls the versions of a model's arms: an arm whose version cannot answer costs only its own rows.

A version cannot answer if it does not load, or if it fails on its golden batch. The champion answers the rows
of such an arm. Rows whose champion cannot answer either get no prediction now, and must be asked again: the
version is loaded again until it works.
"""

import dataclasses
from collections.abc import Awaitable, Callable, Collection, Iterator
from typing import Concatenate, ParamSpec

import numpy as np
import numpy.typing as npt

from services.model_registry.contract import LoadedVersion
from services.model_registry.golden_batch import GoldenError
from services.runtime import times
from services.scoring.arm_metrics import ArmMetrics, RowResult
from services.scoring.arm_router import NO_ARM, ArmRouter, rows_per_arm
from services.scoring.load_failures import VersionNotLoadedError
from services.scoring.loaded_versions import LoadedVersions
from services.scoring.model_calls import ModelCall, ModelCalls, RefusedRow, RowErrors
from services.scoring.outputs import ModelOutputs
from services.scoring.scored_batch import EventTimes, FeatureColumns
from streams import records

P = ParamSpec("P")
ArmIndices = npt.NDArray[np.int64]
"""(n,): the index of each request's arm; `NO_ARM` for none."""
_Rows = npt.NDArray[np.int64] | None
"""Indices of some rows; None for all rows, as in most batches: then no column is copied."""


@dataclasses.dataclass(slots=True)
class ArmOutputs:
    """The outputs of n rows, and the arm that gave each."""

    outputs: ModelOutputs
    """nan for rows without an output."""
    arm_of: ArmIndices
    errors: RowErrors = dataclasses.field(default_factory=dict)
    """Rows on which a version failed, with the reason."""
    unavailable: dict[int, VersionNotLoadedError] = dataclasses.field(default_factory=dict)
    """Rows without an output because their version cannot answer now, and the champion cannot either."""
    fallbacks: dict[int, records.Arm] = dataclasses.field(default_factory=dict)
    """Rows with an output of the champion because the version of their arm cannot answer, with that arm."""
    call_us: dict[int, int] = dataclasses.field(default_factory=dict)
    """How long the call of each arm's version took, by the index of the arm; of several calls the longest."""

    @property
    def failed(self) -> dict[int, str]:
        """Rows that have an arm but no output, with the reason."""
        if not self.unavailable:
            return self.errors
        return self.errors | {row: str(error) for row, error in self.unavailable.items()}

    @property
    def refused(self) -> frozenset[int]:
        """Rows that the version of their arm cannot get, such as one without a value that it requires."""
        return frozenset(row for row, reason in self.errors.items() if isinstance(reason, RefusedRow))


@dataclasses.dataclass(slots=True)
class ArmRows:
    """The n rows to be scored, and their arms."""

    router: ArmRouter
    inputs: FeatureColumns
    """Columns (n,), as the models get them."""
    arm_of: ArmIndices
    times_ms: EventTimes
    version_is_given: bool = False
    """Whether the caller has chosen the version: then the champion does not answer for it."""


class ArmCalls:
    """Calls the versions of one model's arms."""

    def __init__(self, versions: LoadedVersions, calls: ModelCalls, arm_metrics: ArmMetrics) -> None:
        """Take the model's versions, how they are called, and what counts the calls."""
        self._versions = versions
        self._calls = calls
        self._metrics = arm_metrics

    async def predict(self, batch: ArmRows) -> ArmOutputs:
        """Return the outputs of n rows, each by the version of its arm or of the champion."""
        found = ArmOutputs(self._calls.task.empty(len(batch.arm_of)), batch.arm_of)
        broken: set[int] = set()
        waiting = list(_rows_of_each(batch.arm_of))
        while waiting:
            index, rows = waiting.pop()
            try:
                await self._predict_arm(batch, index, rows, found)
            except VersionNotLoadedError as error:
                arm = batch.router.answering[index]
                broken.add(arm.version)
                given = np.arange(len(batch.arm_of)) if rows is None else rows
                self._metrics.count_rows(arm, "unavailable", len(given))
                waiting += _reassign(batch, given, broken, error, found)
        if broken:
            failed = found.failed
            found.fallbacks = {row: arm for row, arm in found.fallbacks.items() if row not in failed}
        return found

    async def predict_shadow(self, arm: records.Arm, inputs: FeatureColumns) -> ModelCall:
        """Return the outputs of n rows by a shadow, and the errors by row; uses no thread of predictions.

        Raises `VersionNotLoadedError` if its version cannot answer.
        """
        try:
            return await self._call(arm, self._calls.predict_in_background, inputs)
        except VersionNotLoadedError:
            self.count_shadow_rows(arm, "unavailable", inputs)
            raise

    def count_shadow_rows(self, arm: records.Arm, result: RowResult, inputs: FeatureColumns) -> None:
        """Count the rows of a shadow that has not scored them."""
        self._metrics.count_rows(arm, result, _row_count(inputs))

    async def _predict_arm(self, batch: ArmRows, index: int, rows: _Rows, found: ArmOutputs) -> None:
        arm = batch.router.answering[index]
        if rows is None:
            call = await self._call(arm, self._calls.predict, batch.inputs, len(batch.arm_of))
            found.outputs, found.errors = call.outputs, call.errors
        else:
            part = {name: column[rows] for name, column in batch.inputs.items()}
            call = await self._call(arm, self._calls.predict, part, len(rows))
            found.outputs[rows] = call.outputs
            found.errors |= {int(rows[row]): reason for row, reason in call.errors.items()}
        found.call_us[index] = max(found.call_us.get(index, 0), call.microseconds)

    async def _call(
        self,
        arm: records.Arm,
        call: Callable[Concatenate[LoadedVersion, P], Awaitable[ModelCall]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> ModelCall:
        loaded = await self._versions.get(arm.version)
        try:
            found = await call(loaded, *args, **kwargs)
        except GoldenError as error:
            raise self._versions.withdraw(arm.version, error) from error
        self._metrics.count_call(arm, found.seconds, _results(found))
        return found


def _results(call: ModelCall) -> dict[RowResult, int]:
    """Return how many rows of a call were answered, failed, or were refused."""
    refused = sum(isinstance(reason, RefusedRow) for reason in call.errors.values())
    failed = len(call.errors) - refused
    return {"answered": len(call.outputs) - len(call.errors), "failed": failed, "refused": refused}


def _row_count(inputs: FeatureColumns) -> int:
    return len(next(iter(inputs.values())))


def _rows_of_each(arm_of: ArmIndices) -> Iterator[tuple[int, _Rows]]:
    """Yield each arm that has rows, with its rows."""
    for index, count in rows_per_arm(arm_of).items():
        yield index, None if count == len(arm_of) else np.flatnonzero(arm_of == index)


def _reassign(
    batch: ArmRows,
    rows: npt.NDArray[np.int64],
    broken: Collection[int],
    error: VersionNotLoadedError,
    found: ArmOutputs,
) -> Iterator[tuple[int, _Rows]]:
    """Give the rows of a broken arm to the champion; yield each arm that gets some, with its new rows."""
    now_ms = times.now_ms()
    if batch.version_is_given:
        stand_in_of = np.full(len(rows), NO_ARM)
    else:
        stand_in_of = batch.router.stand_ins(batch.times_ms[rows], broken, now_ms)
    found.unavailable |= dict.fromkeys(rows[stand_in_of == NO_ARM].tolist(), error)
    found.arm_of = found.arm_of.copy()
    for index, own in _rows_of_each(stand_in_of):
        moved = rows if own is None else rows[own]
        found.arm_of[moved] = index
        for row in moved.tolist():
            found.fallbacks[row] = batch.router.answering[batch.arm_of[row]]
        yield index, moved
