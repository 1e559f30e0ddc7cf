"""The one inference path: requests -> features -> arms -> outputs. Kafka and REST are thin adapters to it."""

import operator
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from services.runtime.declaration import ModelDeclaration
from services.scoring.arm_calls import ArmCalls, ArmIndices, ArmOutputs, ArmRows
from services.scoring.arm_router import NO_ARM, ArmRouter
from services.scoring.model_calls import ModelCalls
from services.scoring.model_versions import ModelVersions
from services.scoring.request_features import RequestFeatures
from services.scoring.scored_batch import EventTimes, ScoredBatch
from services.scoring.shadows import NO_SHADOWS, ShadowArms, ShadowRun
from services.scoring.tracing import stage
from streams import codec


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
        self._arm_calls = ArmCalls(versions.loaded, calls, versions.arm_metrics)
        self._shadows = ShadowArms(self.name, self._arm_calls, self.task, shadow_wait_seconds)
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

        The caller owns the `ShadowRun`: it waits for its scores or cancels it. Rows without a prediction are
        in `ScoredBatch.failed`; see also `services.scoring.arm_calls`.

        Args:
            events: n decoded requests.
            times_ms: Their event times (n,); by default read from the requests.
            version: Only this version predicts, for all requests, and no shadow scores them.
            arm_is_required: Requests without an arm fail; by default their features are collected.

        Raises `UnknownVersionError` if ``version`` is in no arm.
        """
        if times_ms is None:
            times_ms = np.fromiter(map(self.event_time_ms, events), np.int64, len(events))
        with stage("features"):
            read = await self.features.read(events, times_ms)
        router = self.versions.router
        given = None if version is None else router.assign_version(version, len(events))
        arm_of = self._assign(router, times_ms, events) if given is None else given
        failed = self.features.rejected(read.columns)
        rejected = frozenset(failed)
        found, shadows = await self._run_arms(
            ArmRows(
                router=router,
                inputs=self.features.inputs(read.columns),
                arm_of=_without(arm_of, failed),
                times_ms=times_ms,
                version_is_given=version is not None,
            )
        )
        if arm_is_required:
            without_arm = np.flatnonzero(arm_of == NO_ARM).tolist()
            failed = dict.fromkeys(without_arm, "no version is in effect") | failed
        batch = ScoredBatch(
            ids=list(map(self._id_of, events)),
            event_times_ms=times_ms,
            features=read.columns,
            missing=read.missing,
            lag_ms=read.lag_ms,
            arms=router.answering,
            arm_of=found.arm_of,
            outputs=found.outputs,
            failed=failed | found.failed if failed else found.failed,
            rejected=rejected | found.refused if found.errors else rejected,
            unavailable=found.unavailable,
            fallbacks=found.fallbacks,
            call_us=found.call_us,
            feature_set=self.features.feature_set,
            shadow_versions={arm.name: arm.version for arm in router.shadows},
        )
        return batch, shadows

    async def _run_arms(self, rows: ArmRows) -> tuple[ArmOutputs, ShadowRun]:
        """Start the shadows and score the rows."""
        shadows = self._shadows.start(() if rows.version_is_given else rows.router.shadows, rows.inputs)
        try:
            with stage("predict"):
                found = await self._arm_calls.predict(rows)
        except BaseException:
            shadows.cancel()
            raise
        if not shadows.is_empty and np.isnan(found.outputs).all():  # no prediction that a shadow belongs to
            shadows.cancel()
            shadows = NO_SHADOWS
        return found, shadows

    def _assign(self, router: ArmRouter, times_ms: EventTimes, events: Sequence[Any]) -> ArmIndices:
        # An arm's segment may name a field that the schema does not have any more: then no request is in it.
        fields = {field: [getattr(event, field, None) for event in events] for field in router.fields}
        return router.assign(times_ms, list(map(self._key_of, events)), fields)


def _without(arm_of: ArmIndices, rows: Collection[int]) -> ArmIndices:
    """Return the arms with `NO_ARM` for some rows."""
    if not rows:
        return arm_of
    left = arm_of.copy()
    left[list(rows)] = NO_ARM
    return left
