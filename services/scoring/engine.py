"""The one inference path: requests -> features -> arms -> scores. Kafka and REST are thin adapters to it."""

import asyncio
import dataclasses
import operator
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import structlog

from services import telemetry
from services.model import ModelDeclaration
from services.online_store import ServedFeatures
from services.scoring.models import LoadedModel, ModelSet
from streams import codec, records

log = structlog.get_logger()

Columns = dict[str, npt.NDArray[Any]]
COLLECTING = records.Arm(name="collecting", version=0, weight=10_000)
"""The arm of requests for which no model was in effect yet: their features are served and logged."""


class FeaturesLateError(RuntimeError):
    """The features did not pass the requests' event time within the declared wait."""


class UnanswerableError(RuntimeError):
    """No answer can be given now: no model is in effect."""


class Reader(Protocol):
    """The part of `services.online_store.OnlineReader` that scoring uses."""

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
    lag_ms: npt.NDArray[np.int64]
    arms: list[records.Arm]
    scores: npt.NDArray[np.float64]
    """nan where no model was in effect."""
    shadows: dict[str, npt.NDArray[np.float64]]
    failed: dict[int, str]
    """Rows that no model could score, with the reason."""


class Scorer:
    """One model: its declaration, its features, its loaded versions."""

    def __init__(
        self, declaration: ModelDeclaration, join_keys: Sequence[str], reader: Reader, models: ModelSet
    ) -> None:
        """Compile what is the same for every request."""
        self.name = declaration.name
        self.decoder = declaration.request.decoder()
        self.models = models
        self._declaration = declaration
        self._reader = reader
        types = {field.name: field.type for field in declaration.request.fields}
        self._request_features = [(name, types[name]) for name in declaration.features.from_request]
        self._join_keys = list(join_keys)
        self._id = operator.attrgetter(declaration.request.id)
        self._event_time = operator.attrgetter(declaration.request.event_time)

    def event_time_ms(self, event: Any) -> int:
        """Return the event time of a decoded request."""
        return codec.epoch_ms(self._event_time(event))

    async def score(self, events: Sequence[Any], *, wait: bool) -> Scored:
        """Serve features to decoded requests and score them.

        With ``wait`` the features' watermark is awaited, as declared by ``features.wait_seconds``;
        `FeaturesLateError` is raised when it does not come.
        """
        times = np.fromiter(map(self.event_time_ms, events), np.int64, len(events))
        if wait:
            await self._wait_for_features(int(times.max()))
        entities = {key: [getattr(e, key) for e in events] for key in self._join_keys}
        served = await self._reader.read(entities, times)
        columns = self._request_columns(events) | dict(served.columns)
        self._count(columns, served)
        serving = self.models.serving
        chosen = serving.routes.assign(times)
        scores, failed = np.full(len(events), np.nan), dict[int, str]()
        for index in np.unique(chosen[chosen >= 0]):
            rows = np.flatnonzero(chosen == index)
            model = serving.models[serving.routes.champions[index].version]
            answers, errors = await asyncio.to_thread(predict_isolating, model, _take(columns, rows))
            scores[rows] = answers
            failed |= {int(rows[row]): reason for row, reason in errors.items()}
        return Scored(
            ids=[self._id(event) for event in events],
            event_times_ms=times,
            features=columns,
            lag_ms=served.lag_ms,
            arms=[serving.routes.champions[i] if i >= 0 else COLLECTING for i in chosen],
            scores=scores,
            shadows=await self._shadows(columns, scores),
            failed=failed,
        )

    async def answer(self, events: Sequence[Any]) -> list[dict[str, Any]]:
        """Score requests that wait for an answer; nothing is awaited but the store and the model."""
        scored = await self.score(events, wait=False)
        if any(arm is COLLECTING for arm in scored.arms):
            raise UnanswerableError(f"{self.name} has no model in effect at that event time yet")
        if scored.failed:
            row, reason = next(iter(scored.failed.items()))
            raise RuntimeError(f"row {row}: {reason}")
        return [
            {
                "prediction_id": scored.ids[row],
                "version": arm.version,
                "arm": arm.name,
                "score": float(scored.scores[row]),
                "prediction": int(scored.scores[row] >= POSITIVE_FROM),
            }
            for row, arm in enumerate(scored.arms)
        ]

    async def _wait_for_features(self, event_time_ms: int) -> None:
        seconds = self._declaration.features.wait_seconds
        if seconds and not await self._reader.wait_for(event_time_ms, seconds):
            raise FeaturesLateError(
                f"{self.name}: the features did not reach event time {event_time_ms} within {seconds:g} s; "
                "is the features process running and are its sources fed?"
            )

    def _request_columns(self, events: Sequence[Any]) -> Columns:
        return {
            name: _column([getattr(e, name) for e in events], kind) for name, kind in self._request_features
        }

    def _count(self, columns: Columns, served: ServedFeatures) -> None:
        for name, column in columns.items():
            missing = int(np.count_nonzero(_is_missing(column)))
            if missing:
                telemetry.FEATURES_MISSING.labels(self.name, name).inc(missing)
        if served.beyond_retention:
            telemetry.FEATURES_BEYOND_RETENTION.labels(self.name).inc(served.beyond_retention)
        telemetry.FEATURES_LAG.labels(self.name).set(max(0, int(served.lag_ms.max(initial=0))) / 1000)

    async def _shadows(
        self, columns: Columns, scores: npt.NDArray[np.float64]
    ) -> dict[str, npt.NDArray[np.float64]]:
        """Score what was answered by the silent arms as well; their failures never touch the answer."""
        answered = np.flatnonzero(~np.isnan(scores))
        shadows = {}
        for arm in self.models.serving.routes.shadows if len(answered) else ():
            column = np.full(len(scores), np.nan)
            try:
                model = self.models.serving.models[arm.version]
                column[answered] = await asyncio.to_thread(model.predict, _take(columns, answered))
            except Exception as error:  # noqa: BLE001  # whatever a shadow does, the answer goes out
                log.warning("shadow.failed", model=self.name, arm=arm.name, error=repr(error))
                continue
            shadows[arm.name] = column
        return shadows


POSITIVE_FROM = 0.5
"""Score from which a binary prediction is 1."""


def predict_isolating(model: LoadedModel, columns: Columns) -> tuple[npt.NDArray[np.float64], dict[int, str]]:
    """Score rows; where the model raises, halve until the rows at fault are found.

    Returns the scores (nan at fault) and the reasons by row. A model that fails on every row is
    broken, not its input: its error is raised.
    """
    count = len(next(iter(columns.values())))
    scores, errors = np.full(count, np.nan), dict[int, str]()
    stack = [np.arange(count)]
    while stack:
        rows = stack.pop()
        try:
            scores[rows] = model.predict(_take(columns, rows))
        except Exception as error:
            if len(rows) == 1:
                errors[int(rows[0])] = f"the model failed: {error!r}"
                if len(errors) == count:
                    raise
                continue
            stack += [rows[len(rows) // 2 :], rows[: len(rows) // 2]]
    return scores, errors


def to_predictions(
    scored: Scored, model: str, *, partition: int, offsets: Sequence[int], now_ms: int
) -> list[records.Prediction]:
    """Turn answered rows into records, in order; failed rows are left out."""
    features = _rows(scored.features)
    lags: list[int | None] = [lag if lag >= 0 else None for lag in scored.lag_ms.tolist()]
    scores = scored.scores.tolist()
    shadows = {name: column.tolist() for name, column in scored.shadows.items()}
    times = scored.event_times_ms.tolist()
    return [
        records.Prediction(
            prediction_id=scored.ids[row],
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
            score=scores[row] if arm is not COLLECTING else None,
            prediction=int(scores[row] >= POSITIVE_FROM) if arm is not COLLECTING else None,
            shadow_scores={name: column[row] for name, column in shadows.items()}
            if arm is not COLLECTING
            else {},
        )
        for row, arm in enumerate(scored.arms)
        if row not in scored.failed
    ]


def _column(values: list[Any], kind: codec.FieldType) -> npt.NDArray[Any]:
    if kind in (codec.FieldType.INT, codec.FieldType.FLOAT, codec.FieldType.BOOL):
        return np.array(values, dtype=np.float64)  # None becomes nan
    return np.array(values, dtype=object)


def _is_missing(column: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    missing: npt.NDArray[np.bool_] = column == None if column.dtype == object else np.isnan(column)  # noqa: E711  # by element
    return missing


def _take(columns: Columns, rows: npt.NDArray[np.int64]) -> Columns:
    if len(rows) == len(next(iter(columns.values()))):
        return columns
    return {name: column[rows] for name, column in columns.items()}


def _rows(columns: Columns) -> list[list[records.FeatureValue]]:
    """Turn columns into rows of plain values with None for what is missing."""
    plain = []
    for column in columns.values():
        values = column.tolist()
        if column.dtype != object:
            for row in np.flatnonzero(np.isnan(column)):
                values[row] = None
        plain.append(values)
    return [list(row) for row in zip(*plain, strict=True)]
