"""Encodes the predictions of a scored batch as records, and counts them.

The values are those of `streams.records.Prediction` encoded as JSON, byte for byte. But most of a record is
the same in all rows of a slice, so it is encoded once; a row adds only what is its own. That halves the cost
of a record, the largest part of the cost of a prediction.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from services.runtime import metrics
from services.scoring.arm_router import NO_ARM
from services.scoring.outputs import PredictionColumns, PredictionTask
from services.scoring.scored_batch import COLLECTING, ScoredBatch
from streams import records

ShadowScores = Mapping[str, Sequence[float | None]]
"""(n,) by arm; None for a row on which the shadow failed."""

_ENCODE = msgspec.json.Encoder().encode


class EncodedPredictions(NamedTuple):
    """The records of some rows of a batch, in order, without those of failed rows."""

    positions: Sequence[int]
    """Which of these rows have a record."""
    values: list[bytes]
    """Their records."""


class _Row(msgspec.Struct, gc=False):
    """A prediction whose raw fields hold their own JSON and that of the fields after them, see `_raw`."""

    prediction_id: str
    model: msgspec.Raw
    """It holds ``version``, ``arm`` and ``arm_weight``, too."""
    event_time_ms: int
    scored_time_ms: msgspec.Raw
    """It holds ``source_partition``, too."""
    source_offset: int
    features: tuple[records.FeatureValue, ...]
    features_lag_ms: int | None
    score: float | None
    prediction: records.FeatureValue
    shadow_scores: Mapping[str, float]
    probabilities: list[float] | UnsetType
    fallback_from: str | UnsetType
    feature_set: msgspec.Raw
    """It holds ``source`` and the versions of the shadows, too."""


def encode_predictions(
    batch: ScoredBatch,
    shadow_scores: ShadowScores,
    task: PredictionTask,
    model: str,
    *,
    partition: int,
    offsets: Sequence[int],
    now_ms: int,
    rows: range | None = None,
    source: str = "",
) -> EncodedPredictions:
    """Return the prediction records of a batch.

    Args:
        batch: Of n requests.
        shadow_scores: Of the same n requests.
        task: Of the model.
        model: Its name.
        partition: Source partition of the requests.
        offsets: Source offset of each of ``rows``.
        now_ms: Unix time of the prediction.
        rows: Only these rows of the batch; by default all.
        source: Digest of the request topic, see `streams.records.Prediction.source`.
    """
    rows = range(len(batch.ids)) if rows is None else rows
    part, count = slice(rows.start, rows.stop), len(rows)
    arm_of = batch.arm_of[part].tolist()
    columns = _only_of_arms(task.predictions(batch.outputs[part]), arm_of)
    fields: Iterable[tuple[Any, ...]] = zip(
        batch.ids[part],
        _arms(batch, model, arm_of),
        batch.event_times_ms[part].tolist(),
        [_raw(scored_time_ms=now_ms, source_partition=partition)] * count,
        offsets,
        _features(batch, part),
        [lag if lag >= 0 else None for lag in batch.lag_ms[part].tolist()],
        columns.scores,
        columns.predictions,
        _shadow_scores(shadow_scores, part, arm_of),
        columns.probabilities,
        [batch.fallbacks.get(row, UNSET) for row in rows] if batch.fallbacks else [UNSET] * count,
        [_raw(feature_set=batch.feature_set, source=source, **_versions(batch, shadow_scores))] * count,
        strict=True,
    )
    positions: Sequence[int] = range(count)
    if batch.failed:
        positions = [position for position, row in enumerate(rows) if row not in batch.failed]
        fields = itertools.compress(fields, [row not in batch.failed for row in rows])
    return EncodedPredictions(positions, list(map(_ENCODE, itertools.starmap(_Row, fields))))


def count_predictions(model: str, batch: ScoredBatch) -> None:
    """Count the predictions of a batch by version, and those that the champion gave for other arms."""
    for version, count in batch.rows_per_version().items():
        outcome = "scored" if version else "collected"
        metrics.PREDICTIONS.labels(model, str(version), outcome).inc(count)
    for arm in batch.fallbacks.values():
        metrics.ARM_FALLBACKS.labels(model, arm).inc()


def _versions(batch: ScoredBatch, scores: ShadowScores) -> dict[str, dict[str, int]]:
    """Return the field with the versions of the shadows that have scores; empty without any."""
    return {"shadow_versions": {name: batch.shadow_versions[name] for name in scores}} if scores else {}


def _raw(**fields: str | int | Mapping[str, int]) -> msgspec.Raw:
    """Return the JSON of consecutive fields without the name of the first.

    >>> bytes(_raw(model="m", version=1))
    b'"m","version":1'
    """
    return msgspec.Raw(_ENCODE(fields).split(b":", 1)[1][:-1])


def _arms(batch: ScoredBatch, model: str, arm_of: Sequence[int]) -> list[msgspec.Raw]:
    found: dict[int, msgspec.Raw] = {}
    for index in set(arm_of):
        arm = COLLECTING if index == NO_ARM else batch.arms[index]
        found[index] = _raw(model=model, version=arm.version, arm=arm.name, arm_weight=arm.weight)
    return [found[index] for index in arm_of]


def _only_of_arms(columns: PredictionColumns, arm_of: Sequence[int]) -> PredictionColumns:
    """Return predictions without those of rows that no arm has."""
    if NO_ARM not in arm_of:
        return columns
    has_arm = [index != NO_ARM for index in arm_of]

    def only(values: Sequence[Any], other: Any) -> list[Any]:
        return [value if has else other for value, has in zip(values, has_arm, strict=True)]

    return PredictionColumns(
        only(columns.scores, None), only(columns.predictions, None), only(columns.probabilities, UNSET)
    )


def _shadow_scores(scores: ShadowScores, part: slice, arm_of: Sequence[int]) -> Sequence[Mapping[str, float]]:
    """Return the scores by shadow of each row; a row that no arm has, has none."""
    none: Mapping[str, float] = {}
    if not scores:
        return [none] * len(arm_of)
    by_row = zip(*(column[part] for column in scores.values()), strict=True)
    return [
        none
        if index == NO_ARM
        else {name: score for name, score in zip(scores, row, strict=True) if score is not None}
        for index, row in zip(arm_of, by_row, strict=True)
    ]


def _features(batch: ScoredBatch, part: slice) -> list[tuple[records.FeatureValue, ...]]:
    """Return the features of some rows as plain values, None for a missing one."""
    plain = {name: column[part].tolist() for name, column in batch.features.items()}
    for name, missing in batch.missing.items():
        for row in np.flatnonzero(missing[part]):
            plain[name][row] = None
    return list(zip(*plain.values(), strict=True))
