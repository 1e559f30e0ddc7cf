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
from services.scoring.shadows import ShadowOutputs
from streams import records

ShadowScores = Mapping[str, ShadowOutputs]
"""The outputs of the shadows that have scored the batch, by arm."""

_ENCODE = msgspec.json.Encoder().encode


class EncodedPredictions(NamedTuple):
    """The records of some rows of a batch, in order, without those of failed rows."""

    positions: Sequence[int]
    """Which of these rows have a record."""
    values: list[bytes]
    """The records of these rows."""


class _Row(msgspec.Struct, gc=False):
    """A prediction whose raw fields hold their own JSON and that of the fields after them, see `_raw`."""

    prediction_id: str
    model: msgspec.Raw
    """The raw bytes hold ``version``, ``arm``, ``arm_weight`` and ``call_us``, too."""
    event_time_ms: int
    scored_time_ms: msgspec.Raw
    """The raw bytes hold ``source_partition``, too."""
    source_offset: int
    features: tuple[records.FeatureValue, ...]
    features_lag_ms: int | None
    score: float | None
    prediction: records.FeatureValue
    shadow_scores: Mapping[str, float] | msgspec.Raw
    """The raw bytes of a multiclass model hold ``shadow_probabilities``, too."""
    probabilities: list[float] | UnsetType
    fallback_from: msgspec.Raw | UnsetType
    """The raw bytes hold ``fallback_version``, too."""
    feature_set: msgspec.Raw
    """The raw bytes hold ``source``, the versions of the shadows, and the times of their calls, too."""


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
        batch: A batch of n requests.
        shadow_scores: Shadow scores of the same n requests.
        task: The model's task.
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
        [_fallback(batch.fallbacks.get(row)) for row in rows] if batch.fallbacks else [UNSET] * count,
        [_raw(feature_set=batch.feature_set, source=source, **_of_shadows(batch, shadow_scores))] * count,
        strict=True,
    )
    positions: Sequence[int] = range(count)
    if batch.failed:
        positions = [position for position, row in enumerate(rows) if row not in batch.failed]
        fields = itertools.compress(fields, [row not in batch.failed for row in rows])
    return EncodedPredictions(positions, list(map(_ENCODE, itertools.starmap(_Row, fields))))


def count_predictions(model: str, batch: ScoredBatch) -> None:
    """Count the predictions of a batch, and those that the champion gave for other arms."""
    for outcome, count in batch.rows_by_outcome().items():
        metrics.PREDICTIONS.labels(model, outcome).inc(count)
    for arm in batch.fallbacks.values():
        metrics.ARM_FALLBACKS.labels(model, arm.name).inc()


def _of_shadows(batch: ScoredBatch, scores: ShadowScores) -> dict[str, Mapping[str, int]]:
    """Return the fields that all rows share: versions of all shadows, and times of those with scores."""
    found = {
        "shadow_versions": batch.shadow_versions,
        "shadow_call_us": {name: each.call_us for name, each in scores.items()},
    }
    return {name: values for name, values in found.items() if values}


def _fallback(arm: records.Arm | None) -> msgspec.Raw | UnsetType:
    return UNSET if arm is None else _raw(fallback_from=arm.name, fallback_version=arm.version)


def _raw(**fields: str | float | Mapping[str, Any]) -> msgspec.Raw:
    """Return the JSON of consecutive fields without the name of the first.

    >>> bytes(_raw(model="m", version=1))
    b'"m","version":1'
    """
    return msgspec.Raw(_ENCODE(fields).split(b":", 1)[1][:-1])


def _arms(batch: ScoredBatch, model: str, arm_of: Sequence[int]) -> list[msgspec.Raw]:
    found: dict[int, msgspec.Raw] = {}
    for index in set(arm_of):
        arm = COLLECTING if index == NO_ARM else batch.arms[index]
        timed = {"call_us": batch.call_us[index]} if index in batch.call_us else {}
        found[index] = _raw(model=model, version=arm.version, arm=arm.name, arm_weight=arm.weight, **timed)
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


def _shadow_scores(
    shadows: ShadowScores, part: slice, arm_of: Sequence[int]
) -> Sequence[Mapping[str, float] | msgspec.Raw]:
    """Return the scores by shadow of each row; a row that no arm has, has none."""
    none: Mapping[str, float] = {}
    if not shadows:
        return [none] * len(arm_of)
    scores = _by_row({name: each.scores[part] for name, each in shadows.items()})
    if any(each.probabilities for each in shadows.values()):
        probabilities = _by_row({name: each.probabilities[part] for name, each in shadows.items()})
        return [
            _raw(shadow_scores=own, shadow_probabilities=given) if own and index != NO_ARM else none
            for index, own, given in zip(arm_of, scores, probabilities, strict=True)
        ]
    return [none if index == NO_ARM else own for index, own in zip(arm_of, scores, strict=True)]


def _by_row(columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return the values of n rows by shadow, without those that are None."""
    return [
        {name: value for name, value in zip(columns, row, strict=True) if value is not None}
        for row in zip(*columns.values(), strict=True)
    ]


def _features(batch: ScoredBatch, part: slice) -> list[tuple[records.FeatureValue, ...]]:
    """Return the features of some rows as plain values, None for a missing one."""
    plain = {name: column[part].tolist() for name, column in batch.features.items()}
    for name, missing in batch.missing.items():
        for row in np.flatnonzero(missing[part]):
            plain[name][row] = None
    return list(zip(*plain.values(), strict=True))
