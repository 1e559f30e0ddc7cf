"""The one inference path: requests -> features -> arms -> answers. Kafka and REST are thin adapters to it."""

import asyncio
import contextlib
import dataclasses
import operator
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import structlog
from msgspec import UNSET

from services.feature_store.missing_values import MissingPolicy, missing_in
from services.feature_store.served_features import ServedFeatures
from services.model_registry.contract import Model
from services.runtime import metrics
from services.runtime.declaration import ModelDeclaration
from services.scoring.arm_routing import NOBODY, Routes
from services.scoring.call_timing import Pace
from services.scoring.model_cache import ModelSet
from services.scoring.outputs import Outputs, Task
from services.scoring.thread_limits import Threads
from services.scoring.tracing import Stage, stage
from streams import codec, records

log = structlog.get_logger()

Columns = dict[str, npt.NDArray[Any]]
Times = npt.NDArray[np.int64]
_NUMBERS = (codec.FieldType.INT, codec.FieldType.FLOAT, codec.FieldType.BOOL)
COLLECTING = records.Arm(name="collecting", version=0, weight=10_000)
"""The arm of requests for which no model was in effect yet: their features are served and logged."""


class FeaturesLateError(RuntimeError):
    """The features did not pass the requests' event time within the declared wait."""


class Reader(Protocol):
    """The part of `services.feature_store.online_reader.OnlineReader` that scoring uses."""

    async def read(
        self, entity_columns: Mapping[str, Sequence[Any]], event_times_ms: npt.NDArray[np.int64]
    ) -> ServedFeatures:
        """Return the features of n rows, each at its own event time."""

    async def wait_for(self, event_time_ms: int, timeout_seconds: float) -> bool:
        """Wait until all stream views are complete up to an event time."""


@dataclasses.dataclass(frozen=True)
class Scored:
    """n requests with what was served and answered; row i of each column belongs to request i."""

    ids: list[str]
    event_times_ms: npt.NDArray[np.int64]
    features: Columns
    """As served: what is missing is missing, whatever the model got instead."""
    missing: Mapping[str, npt.NDArray[np.bool_]]
    """(n,) by name: where features are missing, of those only that are missing somewhere."""
    lag_ms: npt.NDArray[np.int64]
    arms: Sequence[records.Arm]
    arm_of: npt.NDArray[np.int64]
    """(n,): the index of each request's arm; `NOBODY` where no model was in effect."""
    outputs: Outputs
    """nan where there is no answer."""
    failed: Mapping[int, str]
    """Rows that no model could answer, with the reason."""
    refused: frozenset[int] = frozenset()
    """Those of them that lack a feature which model.yaml says must be there."""
    shadows: Mapping[str, list[float]] = dataclasses.field(default_factory=dict)
    silent: Mapping[str, asyncio.Task[list[float]]] = dataclasses.field(default_factory=dict)
    """Shadows at work, by arm; see `Scorer.with_shadows`."""
    stages: Sequence[Stage] = ()
    """What took how long, where somebody asks."""

    def arm(self, row: int) -> records.Arm:
        """Return the arm of a request."""
        index = self.arm_of[row]
        return COLLECTING if index == NOBODY else self.arms[index]


class Scorer:
    """One model: its declaration, its features, its versions."""

    def __init__(
        self,
        declaration: ModelDeclaration,
        join_keys: Sequence[str],
        feature_names: Sequence[str],
        reader: Reader,
        models: ModelSet,
        threads: Threads,
    ) -> None:
        """Compile what is the same for every request.

        Args:
            declaration: Of the model.
            join_keys: The request fields by which features are read.
            feature_names: Those of its feature service, in order.
            reader: Of that service.
            models: Its versions.
            threads: On which its versions score.
        """
        self.name = declaration.name
        self.declaration = declaration
        self.decoder = declaration.request.decoder()
        self.models = models
        self.task = Task(declaration)
        self.feature_names = [*declaration.features.from_request, *feature_names]
        self._reader = reader
        self.threads = threads
        self._missing = MissingPolicy(declaration.features.missing, self.feature_names)
        types = {field.name: field.type for field in declaration.request.fields}
        from_request = declaration.features.from_request
        self._request_numbers = [name for name in from_request if types[name] in _NUMBERS]
        self._request_texts = [name for name in from_request if types[name] not in _NUMBERS]
        self._numbers = operator.attrgetter(*self._request_numbers) if self._request_numbers else None
        self._join_keys = list(join_keys)
        self._id = operator.attrgetter(declaration.request.id)
        self._key = operator.attrgetter(declaration.request.routing_key)
        self._event_time = operator.attrgetter(declaration.request.event_time)
        self._paces: weakref.WeakKeyDictionary[Model, Pace] = weakref.WeakKeyDictionary()
        self._features_lag = metrics.FEATURES_LAG.labels(self.name)

    def event_time_ms(self, event: Any) -> int:
        """Return the event time of a decoded request."""
        return codec.epoch_ms(self._event_time(event))

    async def score(self, events: Sequence[Any], times_ms: Times, *, replay: bool) -> Scored:
        """Answer decoded requests, shadows included; a replay waits for each of them. Raises as `answer`."""
        return await self.with_shadows(await self.answer(events, times_ms), wait=replay)

    async def answer(
        self, events: Sequence[Any], times_ms: Times | None = None, *, version: int | None = None
    ) -> Scored:
        """Serve features to decoded requests and answer them, without waiting for any shadow.

        The event times (n,) are found in the requests where they are not given. With a version, that one
        answers all, alone. Raises `UnknownVersionError`, and whatever the model raises when it can answer
        no row.
        """
        times = times_ms
        if times is None:
            times = np.fromiter(map(self.event_time_ms, events), np.int64, len(events))
        entities = {key: [getattr(e, key) for e in events] for key in self._join_keys}
        with stage("features"):
            served = await self._reader.read(entities, times)
        columns = self._request_columns(events) | dict(served.columns)
        missing = missing_in(columns)
        self._count(missing, served)
        routes = self.models.routes
        arm_of = self._assign(routes, times, events) if version is None else routes.only(version, len(events))
        failed = self._missing.refused(columns)
        refused = frozenset(failed)
        inputs = self.inputs(columns)
        shadows = self._start_shadows(routes.shadows if version is None else (), inputs)
        try:
            with stage("predict"):
                outputs = await self._answer(inputs, routes.answering, arm_of, failed)
        except BaseException:
            _cancel(shadows)
            raise
        return Scored(
            ids=[self._id(event) for event in events],
            event_times_ms=times,
            features=columns,
            missing=missing,
            lag_ms=served.lag_ms,
            arms=routes.answering,
            arm_of=arm_of,
            outputs=outputs,
            failed=failed,
            refused=refused,
            silent=shadows,
        )

    async def with_shadows(self, scored: Scored, *, wait: bool = False) -> Scored:
        """Add what the shadows said in time, or with ``wait`` all that they say."""
        try:
            shadows = await self._shadow_scores(scored.silent, scored.outputs, wait=wait)
        finally:
            _cancel(scored.silent)
        return dataclasses.replace(scored, shadows=shadows, silent={})

    def inputs(self, columns: Columns) -> Columns:
        """Return what the model gets of features as they were served."""
        return self._missing.fill(columns)

    def _assign(
        self, routes: Routes, times_ms: npt.NDArray[np.int64], events: Sequence[Any]
    ) -> npt.NDArray[np.int64]:
        fields = {field: [getattr(e, field) for e in events] for field in routes.fields}
        return routes.assign(times_ms, [self._key(e) for e in events], fields)

    async def wait_for_features(self, event_time_ms: int) -> None:
        """Wait until the features have passed an event time, as declared by ``features.wait_seconds``.

        Raises `FeaturesLateError` when they have not by then.
        """
        seconds = self.declaration.features.wait_seconds
        if seconds and not await self._reader.wait_for(event_time_ms, seconds):
            raise FeaturesLateError(
                f"{self.name}: the features did not reach event time {event_time_ms} within {seconds:g} s; "
                "is the features process running and are its sources fed?"
            )

    def _request_columns(self, events: Sequence[Any]) -> Columns:
        columns: Columns = {}
        if (
            self._numbers is not None
        ):  # all at once: an array for each costs more than the rest of a small slice
            rows = np.array([self._numbers(event) for event in events], dtype=np.float64)  # None becomes nan
            columns |= zip(self._request_numbers, rows.reshape(len(events), -1).T.copy(), strict=True)
        for name in self._request_texts:
            columns[name] = np.array([getattr(event, name) for event in events], dtype=object)
        return {name: columns[name] for name in self.declaration.features.from_request}

    def _count(self, missing: Mapping[str, npt.NDArray[np.bool_]], served: ServedFeatures) -> None:
        for name, rows in missing.items():
            metrics.FEATURES_MISSING.labels(self.name, name).inc(int(np.count_nonzero(rows)))
        if served.beyond_retention:
            metrics.FEATURES_BEYOND_RETENTION.labels(self.name).inc(served.beyond_retention)
        self._features_lag.set(max(0, int(served.lag_ms.max(initial=0))) / 1000)

    async def _answer(
        self,
        columns: Columns,
        arms: Sequence[records.Arm],
        arm_of: npt.NDArray[np.int64],
        failed: dict[int, str],
    ) -> Outputs:
        """Let each arm answer its rows; add those that it cannot answer to ``failed``."""
        outputs = self.task.empty(len(arm_of))
        waiting = arm_of
        if failed:
            waiting = arm_of.copy()
            waiting[list(failed)] = NOBODY
        for index, count in _rows_by_arm(waiting).items():
            model = await self.models.version(arms[index].version)
            if count == len(waiting):  # as for most models: one arm answers all
                outputs, errors = await self._predict(model, columns, count)
                failed |= errors
                return outputs
            rows = np.flatnonzero(waiting == index)
            own = {name: column[rows] for name, column in columns.items()}
            answered, errors = await self._predict(model, own, count)
            outputs[rows] = answered
            failed |= {int(rows[row]): reason for row, reason in errors.items()}
        return outputs

    async def _predict(self, model: Model, columns: Columns, count: int) -> tuple[Outputs, dict[int, str]]:
        """Call a model: here if it is quick (see `services.scoring.call_timing`), else on a thread."""
        pace = self.pace_of(model)
        if pace.is_quick(count):
            # Which rows are at fault, if any are, is found out on a thread.
            with contextlib.suppress(Exception), pace.noted(count, in_loop=True):
                return self.task.checked(model.predict(columns), count), {}

        def predict() -> tuple[Outputs, dict[int, str]]:
            with pace.noted(count, in_loop=False):
                return predict_isolating(model, self.task, columns)

        return await self.threads.run(predict)

    def pace_of(self, model: Model) -> Pace:
        """Return how quick a loaded version is."""
        pace = self._paces.get(model)
        if pace is None:
            pace = self._paces[model] = Pace()
        return pace

    def _start_shadows(
        self, arms: Sequence[records.Arm], columns: Columns
    ) -> dict[str, asyncio.Task[list[float]]]:
        return {arm.name: asyncio.create_task(self._shadow(arm, columns)) for arm in arms}

    async def _shadow(self, arm: records.Arm, columns: Columns) -> list[float]:
        model = await self.models.version(arm.version)
        count = len(next(iter(columns.values())))
        outputs = await self.threads.run_behind(lambda: self.task.checked(model.predict(columns), count))
        return self.task.answers(outputs).scores

    async def _shadow_scores(
        self, shadows: Mapping[str, asyncio.Task[list[float]]], outputs: Outputs, *, wait: bool
    ) -> dict[str, list[float]]:
        """Collect what the silent arms say; neither their failures nor their slowness touch the answer."""
        if not shadows or np.isnan(outputs).all():
            return {}
        patience = None if wait else self.declaration.limits.shadow_wait_ms / 1000
        await asyncio.wait(shadows.values(), timeout=patience)
        scores = {}
        for name, task in shadows.items():
            if not task.done():
                metrics.SHADOWS_DROPPED.labels(self.name, name, "late").inc()
            elif error := task.exception():
                metrics.SHADOWS_DROPPED.labels(self.name, name, "failed").inc()
                log.warning("shadow.failed", model=self.name, arm=name, error=repr(error))
            else:
                scores[name] = task.result()
        return scores


def count_answers(model: str, scored: Scored) -> None:
    """Count answered requests by the version that answered."""
    answered = np.delete(scored.arm_of, list(scored.failed)) if scored.failed else scored.arm_of
    for index, count in _rows_by_arm(answered, NOBODY).items():
        version = 0 if index == NOBODY else scored.arms[index].version
        outcome = "scored" if version else "collected"
        metrics.PREDICTIONS.labels(model, str(version), outcome).inc(count)


def _rows_by_arm(arm_of: npt.NDArray[np.int64], first: int = 0) -> dict[int, int]:
    """Return how many rows each arm has, from the arm with the index ``first`` on, of those that have any.

    `numpy.unique` sorts, and takes a tenth of a millisecond for a few rows.
    """
    counts = np.bincount(arm_of - NOBODY).tolist()
    return {index: count for index, count in enumerate(counts, NOBODY) if count and index >= first}


def predict_isolating(model: Model, task: Task, columns: Columns) -> tuple[Outputs, dict[int, str]]:
    """Score rows; where the model raises, halve until the rows at fault are found.

    Returns the outputs (nan at fault) and the reasons by row. A model that fails on every row is
    broken, not its input: its error is raised.
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


def to_predictions(
    scored: Scored,
    task: Task,
    model: str,
    *,
    partition: int,
    offsets: Sequence[int],
    now_ms: int,
    rows: range | None = None,
) -> list[records.Prediction]:
    """Turn answered rows into records, in order; failed rows are left out. Without ``rows``, all of them."""
    rows = range(len(scored.ids)) if rows is None else rows
    own = slice(rows.start, rows.stop)
    ids = scored.ids[own]
    features = _plain_rows(scored, own)
    lags: list[int | None] = [lag if lag >= 0 else None for lag in scored.lag_ms[own].tolist()]
    answers = task.answers(scored.outputs[own])
    shadows = [(name, scores[own]) for name, scores in scored.shadows.items()]
    times = scored.event_times_ms[own].tolist()
    predictions = []
    for row, index in enumerate(scored.arm_of[own].tolist()):
        if scored.failed and rows[row] in scored.failed:
            continue
        answered = index != NOBODY
        arm = scored.arms[index] if answered else COLLECTING
        predictions.append(
            records.Prediction(
                prediction_id=ids[row],
                model=model,
                version=arm.version,
                arm=arm.name,
                arm_weight=arm.weight,
                event_time_ms=times[row],
                scored_time_ms=now_ms,
                source_partition=partition,
                source_offset=offsets[row],
                features=features[row],
                features_lag_ms=lags[row],
                score=answers.scores[row] if answered else None,
                prediction=answers.predictions[row] if answered else None,
                shadow_scores={name: scores[row] for name, scores in shadows} if answered else {},
                probabilities=answers.probabilities[row] if answered else UNSET,
            )
        )
    return predictions


def _cancel(tasks: Mapping[str, asyncio.Task[list[float]]]) -> None:
    for task in tasks.values():
        task.cancel()


def _take(columns: Columns, rows: npt.NDArray[np.int64]) -> Columns:
    if len(rows) == len(next(iter(columns.values()))):
        return columns
    return {name: column[rows] for name, column in columns.items()}


def _plain_rows(scored: Scored, own: slice) -> list[list[records.FeatureValue]]:
    """Turn the features of some rows into plain values, with None for what is missing."""
    plain = {name: column[own].tolist() for name, column in scored.features.items()}
    for name, missing in scored.missing.items():
        for row in np.flatnonzero(missing[own]):
            plain[name][row] = None
    return [list(row) for row in zip(*plain.values(), strict=True)]
