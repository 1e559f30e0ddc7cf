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
from services.scoring.arm_router import NO_ARM, ArmRouter, rows_per_arm
from services.scoring.load_failures import VersionNotLoadedError
from services.scoring.loaded_versions import LoadedVersions
from services.scoring.model_calls import ModelCalls, RefusedRow, RowErrors
from services.scoring.outputs import ModelOutputs
from services.scoring.scored_batch import EventTimes, FeatureColumns

P = ParamSpec("P")
ArmIndices = npt.NDArray[np.int64]
"""(n,): the index of each request's arm; `NO_ARM` for none."""
_Rows = npt.NDArray[np.int64] | None
"""Indices of some rows; None for all rows, as in most batches: then no column is copied."""
_Scored = tuple[ModelOutputs, RowErrors]


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
    fallbacks: dict[int, str] = dataclasses.field(default_factory=dict)
    """Rows with an output of the champion because the version of their arm cannot answer, with that arm."""

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

    def __init__(self, versions: LoadedVersions, calls: ModelCalls) -> None:
        """Take the model's versions and how they are called."""
        self._versions = versions
        self._calls = calls

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
                broken.add(batch.router.answering[index].version)
                given = np.arange(len(batch.arm_of)) if rows is None else rows
                waiting += _reassign(batch, given, broken, error, found)
        if broken:
            failed = found.failed
            found.fallbacks = {row: arm for row, arm in found.fallbacks.items() if row not in failed}
        return found

    async def predict_shadow(self, version: int, inputs: FeatureColumns) -> _Scored:
        """Return the outputs of n rows by one version, and the errors by row; uses no thread of predictions.

        Raises `VersionNotLoadedError` if the version cannot answer.
        """
        return await self._call(version, self._calls.predict_in_background, inputs)

    async def _predict_arm(self, batch: ArmRows, index: int, rows: _Rows, found: ArmOutputs) -> None:
        version = batch.router.answering[index].version
        if rows is None:
            found.outputs, found.errors = await self._call(
                version, self._calls.predict, batch.inputs, len(batch.arm_of)
            )
            return
        part = {name: column[rows] for name, column in batch.inputs.items()}
        found.outputs[rows], errors = await self._call(version, self._calls.predict, part, len(rows))
        found.errors |= {int(rows[row]): reason for row, reason in errors.items()}

    async def _call(
        self,
        version: int,
        call: Callable[Concatenate[LoadedVersion, P], Awaitable[_Scored]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> _Scored:
        loaded = await self._versions.get(version)
        try:
            return await call(loaded, *args, **kwargs)
        except GoldenError as error:
            raise self._versions.withdraw(version, error) from error


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
            found.fallbacks[row] = batch.router.answering[batch.arm_of[row]].name
        yield index, moved
