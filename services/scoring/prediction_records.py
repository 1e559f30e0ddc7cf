"""Makes prediction records of a scored batch and counts its predictions."""

from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import UNSET

from services.runtime import metrics
from services.scoring.arm_router import NO_ARM
from services.scoring.outputs import PredictionTask
from services.scoring.scored_batch import COLLECTING, ScoredBatch
from streams import records

ShadowScores = Mapping[str, Sequence[float | None]]
"""(n,) by arm; None for a row on which the shadow failed."""


def to_records(
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
) -> list[records.Prediction]:
    """Return the prediction records of a batch, in order, without failed rows.

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
    part = slice(rows.start, rows.stop)
    ids = batch.ids[part]
    features, times = _feature_rows(batch, part), batch.event_times_ms[part].tolist()
    lags: list[int | None] = [lag if lag >= 0 else None for lag in batch.lag_ms[part].tolist()]
    columns = task.predictions(batch.outputs[part])
    shadows = [(name, scores[part]) for name, scores in shadow_scores.items()]
    predictions = []
    for row, index in enumerate(batch.arm_of[part].tolist()):
        if batch.failed and rows[row] in batch.failed:
            continue
        arm, has_arm = (batch.arms[index], True) if index != NO_ARM else (COLLECTING, False)
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
                score=columns.scores[row] if has_arm else None,
                prediction=columns.predictions[row] if has_arm else None,
                shadow_scores=_shadow_scores(shadows, row) if has_arm and shadows else {},
                probabilities=columns.probabilities[row] if has_arm else UNSET,
                fallback_from=batch.fallbacks.get(rows[row], UNSET) if batch.fallbacks else UNSET,
                feature_set=batch.feature_set,
                source=source,
            )
        )
    return predictions


def count_predictions(model: str, batch: ScoredBatch) -> None:
    """Count the predictions of a batch by version, and those that the champion gave for other arms."""
    for version, count in batch.rows_per_version().items():
        outcome = "scored" if version else "collected"
        metrics.PREDICTIONS.labels(model, str(version), outcome).inc(count)
    for arm in batch.fallbacks.values():
        metrics.ARM_FALLBACKS.labels(model, arm).inc()


def _shadow_scores(shadows: Sequence[tuple[str, Sequence[float | None]]], row: int) -> dict[str, float]:
    found = ((name, scores[row]) for name, scores in shadows)
    return {name: score for name, score in found if score is not None}


def _feature_rows(batch: ScoredBatch, part: slice) -> list[list[records.FeatureValue]]:
    """Return the features of some rows as plain values, None for a missing one."""
    plain = {name: column[part].tolist() for name, column in batch.features.items()}
    for name, missing in batch.missing.items():
        for row in np.flatnonzero(missing[part]):
            plain[name][row] = None
    return [list(row) for row in zip(*plain.values(), strict=True)]
