"""The reference against which drift is measured: what the model was trained on, in frozen bins. Pure."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from services.monitoring import rank_correlation
from services.monitoring.model_metrics import Measures, NumericPrediction
from services.monitoring.seasons import seasons_of
from services.monitoring.segments import segments_of
from services.retraining import design_effect
from services.runtime.declaration import ModelDeclaration, Part
from streams.records import FeatureReference, PairReference, Reference

Times = npt.NDArray[np.int64]

BINS_MAX = 64
"""Of a number: equal shares of the rows where its values allow it, and one bin on either side of them.
A KS distance is then within 1/64 of the exact one."""


def build(
    version: int,
    features: Any,
    times_ms: Times,
    held_out_ms: Times,
    scores: npt.NDArray[np.float64],
    labels: npt.NDArray[np.int8],
    log_loss: float,
    text: list[str],
    importances: Mapping[str, float],
    declaration: ModelDeclaration,
) -> Reference:
    """Make the reference of a model.

    Args:
        version: Of the model.
        features: The frame (n_rows, n_features) that it was trained on; its columns give the order.
        times_ms: Event times of those rows.
        held_out_ms: Event times of the held-out rows.
        scores: Of the held-out rows.
        labels: Of the held-out rows.
        log_loss: On the held-out rows.
        text: Those features that hold text.
        importances: By feature.
        declaration: Seasons and blocks, the threshold, and what answers cost.
    """
    monitoring = declaration.monitoring
    columns = {
        name: features[name].to_numpy(dtype=object if name in text else float) for name in features.columns
    }
    divided = design_effect.Blocks(times_ms, monitoring.block_ms)
    made = [
        msgspec.structs.replace(
            of_column(name, values, times_ms, monitoring.season.get(name, ()), divided),
            importance=importances.get(name),
        )
        for name, values in columns.items()
    ]
    made = by_segment(made, list(columns.values()), monitoring.segments)
    divided = design_effect.Blocks(held_out_ms, monitoring.block_ms)
    score = of_column("score", scores, held_out_ms, monitoring.season.get("score", ()), divided)
    measured = _measured(declaration, scores, labels)
    held_out: dict[str, npt.NDArray[Any]] = {"labels": np.ones(len(labels)), "positives": labels, **measured}
    return Reference(
        version=version,
        features=made,
        score=score,
        log_loss=log_loss,
        loss_design_effect=divided.design_effect(
            design_effect.middle_ranks(np.where(labels == 1, 1 - scores, scores))
        ),
        pairs=of_pairs(made, list(columns.values()), times_ms),
        measures={name: float(values.mean()) for name, values in measured.items()},
        score_sums=_sums(score, scores, held_out),
    )


def _measured(
    declaration: ModelDeclaration, scores: npt.NDArray[np.float64], labels: npt.NDArray[np.int8]
) -> dict[str, npt.NDArray[np.float64]]:
    """Return the value of each measure for each held-out row (n,), as drift will measure what is served."""
    measures = Measures(declaration)
    rows = [
        measures.values(NumericPrediction(score, measures.predicted_value(score)), float(label))
        for score, label in zip(scores.tolist(), labels.tolist(), strict=True)
    ]
    return dict(zip(measures.names, np.array(rows).T, strict=True))


def _sums(
    made: FeatureReference, scores: npt.NDArray[np.float64], columns: Mapping[str, npt.NDArray[Any]]
) -> dict[str, list[float]]:
    """Sum columns (n,) over the rows in each cell of the score."""
    cells = _cells(made, scores)
    return {
        name: np.bincount(cells, weights=column, minlength=len(made.counts)).tolist()
        for name, column in columns.items()
    }


def by_segment(
    references: Sequence[FeatureReference], columns: Sequence[npt.NDArray[Any]], declared: Sequence[str]
) -> list[FeatureReference]:
    """Count the rows of each segment apart; see `FeatureReference.segments`."""
    segments = segments_of(references, declared)
    if not segments:
        return list(references)
    cells = [_cells(made, values) for made, values in zip(references, columns, strict=True)]
    rows = {name: cells[segment.feature] == segment.bin for name, segment in segments.items()}
    found = []
    for number, (made, places) in enumerate(zip(references, cells, strict=True)):
        counts = {
            name: np.bincount(places[inside], minlength=len(made.counts) + 1).tolist()
            for name, inside in rows.items()
            if segments[name].feature != number
        }
        found.append(made if made.season else msgspec.structs.replace(made, segments=counts))
    return found


def of_pairs(
    references: Sequence[FeatureReference], columns: Sequence[npt.NDArray[Any]], times_ms: Times
) -> PairReference:
    """Tell how the features go together: sums over the rows of which the references are made."""
    watched = list(zip(references, columns, strict=True))[: rank_correlation.FEATURES_MAX]
    moments = rank_correlation.Moments.none(len(watched))
    if watched:
        scores = [
            rank_correlation.RankScorer(made).scores(_cells(made, values), times_ms)
            for made, values in watched
        ]
        moments.add(np.stack(scores, axis=1))
    return moments.reference()


def of_column(
    feature: str,
    values: npt.NDArray[Any],
    times_ms: Times,
    season: Sequence[Part],
    divided: design_effect.Blocks,
) -> FeatureReference:
    """Count numbers or texts (n,) overall and by season, and tell how alike those of one block are."""
    made = of_categories(feature, values) if values.dtype == object else of_numbers(feature, values)
    cells = _cells(made, values)
    season_of = seasons_of(times_ms, season)
    ranks = np.empty(len(cells))
    counts = {}
    for number in np.unique(season_of):
        rows = season_of == number
        own = cells[rows]
        found = np.bincount(own, minlength=len(made.counts) + 1)
        ranks[rows] = design_effect.middles(found)[own]
        counts[str(number)] = found.tolist()
    return msgspec.structs.replace(
        made,
        season=list(season),
        seasons=counts if season else {},
        design_effect=divided.design_effect(ranks),
    )


def _cells(made: FeatureReference, values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return the place of each value (n,) in the counts; the missing ones stand behind them."""
    missing = len(made.counts)
    if made.categories is not None:
        place = {name: number for number, name in enumerate(made.categories)}
        return np.array([missing if value is None else place[value] for value in values], dtype=np.int64)
    return np.where(np.isnan(values), missing, np.searchsorted(made.edges or [], values, side="right"))


def of_numbers(feature: str, values: npt.NDArray[np.float64]) -> FeatureReference:
    """Count numbers (n,) in bins between quantiles; nan counts as missing.

    Bin i holds ``edges[i-1] <= x < edges[i]``. Edges that coincide are one, so a value that is more
    frequent than a bin's share gets a bin of its own. The outermost edges are the range, so the first and
    the last bin are empty: what falls into them later is below or above all that was known.
    """
    present = values[~np.isnan(values)]
    edges = np.array([])
    if len(present):
        shares = np.linspace(0, 1, BINS_MAX + 1)[:-1]
        inner = np.quantile(present, shares, method="inverted_cdf")  # observed values only
        edges = np.unique([*inner, np.nextafter(present.max(), np.inf)])
    counts = np.bincount(np.searchsorted(edges, present, side="right"), minlength=len(edges) + 1)
    return FeatureReference(
        feature=feature, counts=counts.tolist(), missing=len(values) - len(present), edges=edges.tolist()
    )


def of_categories(feature: str, values: npt.NDArray[np.object_]) -> FeatureReference:
    """Count texts (n,) by name; None counts as missing."""
    present = [value for value in values if value is not None]
    found = sorted(collections.Counter(present).items())
    return FeatureReference(
        feature=feature,
        counts=[count for _, count in found],
        missing=len(values) - len(present),
        categories=[name for name, _ in found],
    )
