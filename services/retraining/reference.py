"""The reference with which drift compares: the training rows of a model, in fixed bins. Pure."""

import collections
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from services.monitoring import rank_correlation, value_kinds
from services.monitoring.model_metrics import Measures, NumericPrediction
from services.monitoring.seasons import seasons_of
from services.monitoring.segments import segments_of
from services.retraining import design_effect
from services.runtime.declaration import ModelDeclaration, Part
from streams.records import FeatureReference, IndicatorReference, PairReference, Reference

Times = npt.NDArray[np.int64]

BINS_MAX = 64
"""Maximum bins of a number, with equal shares of the rows if its values allow it, plus one on either side.
The KS distance of binned values is within 1/64 of the exact one."""


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
    """Return the reference of a model.

    Args:
        version: The model's version.
        features: The training frame (n_rows, n_features); its columns give the order.
        times_ms: Event times of those rows.
        held_out_ms: Event times of the held-out rows.
        scores: Scores of the held-out rows.
        labels: Labels of the held-out rows.
        log_loss: Log loss on the held-out rows.
        text: The features that hold text.
        importances: Importance by feature.
        declaration: Seasons, blocks, the threshold, and the costs of predictions.
    """
    monitoring = declaration.monitoring
    columns = {
        name: features[name].to_numpy(dtype=object if name in text else float) for name in features.columns
    }
    blocks = design_effect.Blocks(times_ms, monitoring.block_ms)
    references = [
        msgspec.structs.replace(
            of_column(name, values, times_ms, monitoring.season.get(name, ()), blocks),
            importance=importances.get(name),
        )
        for name, values in columns.items()
    ]
    references = by_segment(references, list(columns.values()), monitoring.segments)
    feature_blocks = blocks
    blocks = design_effect.Blocks(held_out_ms, monitoring.block_ms)
    score = of_column("score", scores, held_out_ms, monitoring.season.get("score", ()), blocks)
    measured = _measured(declaration, scores, labels)
    loss_blocks = design_effect.Blocks(held_out_ms, monitoring.loss_block_ms)
    clipped = _clipped(Measures(declaration), measured)
    held_out: dict[str, npt.NDArray[Any]] = {"labels": np.ones(len(labels)), "positives": labels, **measured}
    return Reference(
        version=version,
        features=references,
        score=score,
        log_loss=log_loss,
        loss_design_effect=loss_blocks.of_values(clipped[Measures(declaration).loss]),
        pairs=of_pairs(references, list(columns.values()), times_ms, feature_blocks),
        measures={name: float(values.mean()) for name, values in measured.items()},
        measure_errors={name: _standard_error(values, loss_blocks) for name, values in clipped.items()},
        score_sums=_sums(score, scores, held_out),
    )


def _measured(
    declaration: ModelDeclaration, scores: npt.NDArray[np.float64], labels: npt.NDArray[np.int8]
) -> dict[str, npt.NDArray[np.float64]]:
    """Return the value of each measure for each held-out row (n,), as drift computes it for served rows."""
    measures = Measures(declaration)
    rows = [
        measures.values(NumericPrediction(score, measures.predicted_value(score)), float(label))
        for score, label in zip(scores.tolist(), labels.tolist(), strict=True)
    ]
    return dict(zip(measures.names, np.array(rows).T, strict=True))


def _clipped(
    measures: Measures, measured: Mapping[str, npt.NDArray[np.float64]], error_max: float | None = None
) -> dict[str, npt.NDArray[np.float64]]:
    """Return the values of each measure (n,), clipped to their range as those of served rows are."""
    ranges = measures.ranges(error_max) or []
    return {
        name: np.clip(measured[name], each.low, each.high)
        for name, each in zip(measures.names, ranges, strict=True)
    }


def _standard_error(values: npt.NDArray[np.float64], blocks: design_effect.Blocks) -> float:
    """Return the standard error of the mean of values (n,) that are alike within blocks."""
    return math.sqrt(float(values.var()) * blocks.of_values(values) / max(len(values), 1))


def _sums(
    reference: FeatureReference, scores: npt.NDArray[np.float64], columns: Mapping[str, npt.NDArray[Any]]
) -> dict[str, list[float]]:
    """Return the sums of columns (n,) over the rows in each bin of the score."""
    bins = _bins(reference, scores)
    return {
        name: np.bincount(bins, weights=column, minlength=len(reference.counts)).tolist()
        for name, column in columns.items()
    }


def by_segment(
    references: Sequence[FeatureReference], columns: Sequence[npt.NDArray[Any]], declared: Sequence[str]
) -> list[FeatureReference]:
    """Return the references with counts for each segment; see `FeatureReference.segments`."""
    segments = segments_of(references, declared)
    if not segments:
        return list(references)
    bins = [_bins(reference, values) for reference, values in zip(references, columns, strict=True)]
    rows = {name: bins[segment.feature] == segment.bin for name, segment in segments.items()}
    found = []
    for number, (reference, bin_of_row) in enumerate(zip(references, bins, strict=True)):
        counts = {
            name: np.bincount(bin_of_row[inside], minlength=len(reference.counts) + 1).tolist()
            for name, inside in rows.items()
            if segments[name].feature != number
        }
        found.append(reference if reference.season else msgspec.structs.replace(reference, segments=counts))
    return found


def of_pairs(
    references: Sequence[FeatureReference],
    columns: Sequence[npt.NDArray[Any]],
    times_ms: Times,
    blocks: design_effect.Blocks | None = None,
) -> PairReference:
    """Return the rank correlations of the features, as sums over the rows of the references.

    With blocks, the design effects of the products are measured, too.
    """
    effects: list[float] = []
    watched = list(zip(references, columns, strict=True))[: rank_correlation.FEATURES_MAX]
    moments = rank_correlation.Moments.none(len(watched))
    if watched:
        scores = [
            rank_correlation.RankScorer(reference).scores(_bins(reference, values), times_ms)
            for reference, values in watched
        ]
        moments.add(np.stack(scores, axis=1))
        if blocks is not None:
            effects = blocks.of_products(np.stack(scores, axis=1)).tolist()
    return msgspec.structs.replace(moments.reference(), design_effects=effects)


def of_column(
    feature: str,
    values: npt.NDArray[Any],
    times_ms: Times,
    season: Sequence[Part],
    blocks: design_effect.Blocks,
) -> FeatureReference:
    """Count numbers or texts (n,) overall and by season, and compute their design effect."""
    reference = of_categories(feature, values) if values.dtype == object else of_numbers(feature, values)
    bins = _bins(reference, values)
    season_of = seasons_of(times_ms, season)
    ranks = np.empty(len(bins))
    counts = {}
    for number in np.unique(season_of):
        rows = season_of == number
        season_bins = bins[rows]
        found = np.bincount(season_bins, minlength=len(reference.counts) + 1)
        ranks[rows] = design_effect.middles(found)[season_bins]
        counts[str(number)] = found.tolist()
    reference = msgspec.structs.replace(
        reference,
        season=list(season),
        seasons=counts if season else {},
        design_effect=max(blocks.design_effect(ranks), _of_exceptions(bins, blocks)),
    )
    return msgspec.structs.replace(reference, indicators=_indicators(reference, bins, ranks, blocks))


def _of_exceptions(bins: npt.NDArray[np.int64], blocks: design_effect.Blocks) -> float:
    """Return the design effect of being another value than the most frequent one; 1 if most values are.

    Where nearly all values are equal, as of rain, their ranks show no bursts of the others.
    """
    others = bins != np.bincount(bins, minlength=1).argmax()
    if 2 * np.count_nonzero(others) >= len(bins):
        return 1.0
    return blocks.of_indicator(others, design_effect.BURST_HALVINGS)


def _indicators(
    reference: FeatureReference,
    bins: npt.NDArray[np.int64],
    ranks: npt.NDArray[np.float64],
    blocks: design_effect.Blocks,
) -> dict[str, IndicatorReference]:
    """Return the values of each kind and their design effects, see `services.monitoring.value_kinds`."""
    counts = np.array(reference.counts, dtype=np.int64)
    missing = bins == len(counts)
    found = {value_kinds.MISSING: _indicator(missing, blocks)}
    if reference.categories is not None:
        alone = blocks.rows_in_one_block(np.where(missing, -1, bins))
        rare = np.append(value_kinds.rare_categories(counts), False)[bins]
        new = _indicator(alone, blocks)
        effect = max(new.design_effect, blocks.of_indicator(rare))  # a category may be rare, and then stay
        of_rare = IndicatorReference(rows=value_kinds.rows_of_rare(counts), design_effect=effect)
        return found | {value_kinds.NEW: new, value_kinds.RARE: of_rare}
    if not reference.edges:
        return found | {value_kinds.NEW: _indicator(~missing, blocks)}
    among_present = np.where(missing, 0.5, ranks / max(1 - float(missing.mean()), 1e-9))
    tails = {value_kinds.BELOW: 1 - among_present, value_kinds.ABOVE: among_present}
    return found | {
        name: IndicatorReference(rows=0, design_effect=blocks.of_tail(outermost))
        for name, outermost in tails.items()
    }


def _indicator(flags: npt.NDArray[np.bool_], blocks: design_effect.Blocks) -> IndicatorReference:
    return IndicatorReference(rows=int(np.count_nonzero(flags)), design_effect=blocks.of_indicator(flags))


def _bins(reference: FeatureReference, values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return the bin of each value (n,); missing values get the number after the last bin."""
    missing = len(reference.counts)
    if reference.categories is not None:
        bin_of = {name: number for number, name in enumerate(reference.categories)}
        return np.array([missing if value is None else bin_of[value] for value in values], dtype=np.int64)
    return np.where(np.isnan(values), missing, np.searchsorted(reference.edges or [], values, side="right"))


def of_numbers(feature: str, values: npt.NDArray[np.float64]) -> FeatureReference:
    """Count numbers (n,) in bins between quantiles; nan counts as missing.

    Bin i holds ``edges[i-1] <= x < edges[i]``. Equal edges are merged, so a value that is more frequent than
    the share of a bin gets a separate bin. The outermost edges are the range of the values, so the first and
    the last bin are empty: values that fall into them later are below or above all training values.
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
