"""The one inference path: requests -> features -> arms -> outputs. Kafka and REST are thin adapters to it."""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from services.runtime.declaration import ModelDeclaration
from services.scoring.arm_router import NO_ARM, ArmRouter, rows_per_arm
from services.scoring.model_calls import ModelCalls
from services.scoring.model_versions import ModelVersions
from services.scoring.outputs import ModelOutputs
from services.scoring.request_features import FeatureRows, RequestFeatures
from services.scoring.scored_batch import EventTimes, FeatureColumns, ScoredBatch
from services.scoring.shadows import NO_SHADOWS, ShadowArms, ShadowRun
from services.scoring.tracing import stage
from streams import codec, records


class InferencePipeline:
    """One model: its declaration, its features, its versions."""

    def __init__(
        self,
        declaration: ModelDeclaration,
        features: RequestFeatures,
        versions: ModelVersions,
        calls: ModelCalls,
    ) -> None:
        """Take the parts of one model."""
        self.name = declaration.name
        self.declaration = declaration
        self.decoder = declaration.request.decoder(features.ranges)
        self.features = features
        self.versions = versions
        self.calls = calls
        self.task = calls.task
        shadow_wait_seconds = declaration.limits.shadow_wait_ms / 1000
        self._shadows = ShadowArms(self.name, versions, calls, shadow_wait_seconds)
        self._id_of = operator.attrgetter(declaration.request.id)
        self._key_of = operator.attrgetter(declaration.request.routing_key)
        self._event_time_of = operator.attrgetter(declaration.request.event_time)

    def event_time_ms(self, event: Any) -> int:
        """Return the event time of a decoded request."""
        return codec.epoch_ms(self._event_time_of(event))

    async def score(
        self,
        events: Sequence[Any],
        times_ms: EventTimes | None = None,
        *,
        version: int | None = None,
        arm_is_required: bool = False,
    ) -> tuple[ScoredBatch, ShadowRun]:
        """Read features and predict; return the batch, and the shadows that still score it.

        The caller owns the `ShadowRun`: it waits for its scores or cancels it.

        Args:
            events: n decoded requests.
            times_ms: Their event times (n,); by default read from the requests.
            version: This version predicts for all requests, and no shadow scores them.
            arm_is_required: Requests without an arm fail; by default their features are collected.

        Raises:
            UnknownVersionError: ``version`` is in no arm.
            Exception: Whatever the model raises if it fails on every row.
        """
        if times_ms is None:
            times_ms = np.fromiter(map(self.event_time_ms, events), np.int64, len(events))
        with stage("features"):
            read = await self.features.read(events, times_ms)
        router = self.versions.router
        if version is None:
            arm_of = self._assign(router, times_ms, events)
        else:
            arm_of = router.assign_version(version, len(events))
        failed = self.features.rejected(read.columns)
        rejected = frozenset(failed)
        shadow_arms = router.shadows if version is None else ()
        outputs, shadows = await self._run_arms(router.answering, shadow_arms, read, arm_of, failed)
        if arm_is_required:
            without_arm = np.flatnonzero(arm_of == NO_ARM).tolist()
            failed = dict.fromkeys(without_arm, "no version is in effect") | failed
        batch = ScoredBatch(
            ids=[self._id_of(event) for event in events],
            event_times_ms=times_ms,
            features=read.columns,
            missing=read.missing,
            lag_ms=read.lag_ms,
            arms=router.answering,
            arm_of=arm_of,
            outputs=outputs,
            failed=failed,
            rejected=rejected,
        )
        return batch, shadows

    async def _run_arms(
        self,
        arms: Sequence[records.Arm],
        shadow_arms: Sequence[records.Arm],
        read: FeatureRows,
        arm_of: npt.NDArray[np.int64],
        failed: dict[int, str],
    ) -> tuple[ModelOutputs, ShadowRun]:
        """Start the shadows and score the rows; add rows on which a version fails to ``failed``."""
        inputs = self.features.inputs(read.columns)
        shadows = self._shadows.start(shadow_arms, inputs)
        try:
            with stage("predict"):
                outputs = await self._predict(inputs, arms, arm_of, failed)
        except BaseException:
            shadows.cancel()
            raise
        if not shadows.is_empty and np.isnan(outputs).all():  # no prediction that a shadow belongs to
            shadows.cancel()
            shadows = NO_SHADOWS
        return outputs, shadows

    def _assign(
        self, router: ArmRouter, times_ms: EventTimes, events: Sequence[Any]
    ) -> npt.NDArray[np.int64]:
        fields = {field: [getattr(event, field) for event in events] for field in router.fields}
        return router.assign(times_ms, [self._key_of(event) for event in events], fields)

    async def _predict(
        self,
        inputs: FeatureColumns,
        arms: Sequence[records.Arm],
        arm_of: npt.NDArray[np.int64],
        failed: dict[int, str],
    ) -> ModelOutputs:
        """Score the rows of each arm; add rows on which its version fails to ``failed``."""
        outputs = self.task.empty(len(arm_of))
        open_rows = arm_of
        if failed:
            open_rows = arm_of.copy()
            open_rows[list(failed)] = NO_ARM
        for index, count in rows_per_arm(open_rows).items():
            model = await self.versions.get(arms[index].version)
            if count == len(open_rows):  # as in most models: one arm gets all rows
                outputs, errors = await self.calls.predict(model, inputs, count)
                failed |= errors
                return outputs
            rows = np.flatnonzero(open_rows == index)
            arm_inputs = {name: column[rows] for name, column in inputs.items()}
            outputs[rows], errors = await self.calls.predict(model, arm_inputs, count)
            failed |= {int(rows[row]): reason for row, reason in errors.items()}
        return outputs
