"""The reference with which drift compares: rows known of a model, in fixed bins, with its losses. Pure.

Retraining makes one from its training set, registration from a file of rows, learning from its first labels.
"""

import collections
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from services.monitoring import design_effect, rank_correlation, value_kinds
from services.monitoring.model_metrics import Measures, NumericPrediction, log_losses
from services.monitoring.seasons import seasons_of
from services.monitoring.segments import segments_of
from services.runtime.declaration import ModelDeclaration, Part
from streams.records import FeatureReference, IndicatorReference, PairReference, Reference

Times = npt.NDArray[np.int64]
Column = npt.NDArray[Any]
"""(n,) float64 with nan, or object with None for a text."""
CATEGORIES_MAX = 1000
"""Maximum values of a text feature that is compared: a text with more is an id."""

SCORE, PREDICTION = "score", "prediction"
"""Names of the distributions of a model's outputs."""
ERROR_QUANTILE = 0.99
"""Quantile of the absolute errors at which those of a regression are cut."""
BINS_MAX = 64
"""Maximum bins of a number, with equal shares of the rows if its values allow it, plus one on either side.
The KS distance of binned values is within 1/64 of the exact one."""


@dataclasses.dataclass(frozen=True)
class KnownRows:
    """Rows as a model is given them, with their event times."""

    columns: Mapping[str, npt.NDArray[Any]]
    """(n,) by feature: float64 with nan, or object with None for a text."""
    times_ms: Times
    """(n,) Rows without a known time have equal ones and count as independent."""


@dataclasses.dataclass(frozen=True)
class KnownOutputs:
    """Outputs of a model for rows that it has not learned from, with the labels that are known."""

    outputs: npt.NDArray[np.float64]
    """(n,) or (n, n_classes), see `services.model_registry.contract.Model`."""
    labels: npt.NDArray[np.float64] | None
    """(n,), see `streams.records.Label.value`; None: they are unknown."""
    times_ms: Times


def build(
    version: int,
    rows: KnownRows,
    known: KnownOutputs,
    declaration: ModelDeclaration,
    importances: Mapping[str, float] | None = None,
) -> Reference:
    """Return the reference of a version.

    Args:
        version: The model's version.
        rows: What its features are compared with.
        known: What its scores and its losses are compared with.
        declaration: Task, seasons, blocks, the threshold, and the costs of predictions.
        importances: Importance by feature, as far as it was measured.
    """
    monitoring = declaration.monitoring
    blocks = design_effect.Blocks(rows.times_ms, monitoring.block_ms)
    references = [
        msgspec.structs.replace(
            of_column(name, values, rows.times_ms, monitoring.season.get(name, ()), blocks),
            importance=(importances or {}).get(name),
        )
        for name, values in rows.columns.items()
    ]
    columns = list(rows.columns.values())
    references = by_segment(references, columns, monitoring.segments)
    reference = Reference(
        version=version,
        features=references,
        score=None,
        log_loss=None,
        pairs=of_pairs(references, columns, rows.times_ms, blocks),
    )
    return _with_losses(_with_outputs(reference, known, declaration), known, declaration)


def _with_outputs(reference: Reference, known: KnownOutputs, declaration: ModelDeclaration) -> Reference:
    """Return a reference with the distributions of the scores and, of a multiclass model, of its classes."""
    monitoring = declaration.monitoring
    blocks = design_effect.Blocks(known.times_ms, monitoring.block_ms)

    def distribution(name: str, values: npt.NDArray[Any]) -> FeatureReference:
        return of_column(name, values, known.times_ms, monitoring.season.get(name, ()), blocks)

    score = distribution(SCORE, scores_of(known.outputs))
    if declaration.task != "multiclass":
        return msgspec.structs.replace(reference, score=score)
    names = np.array(declaration.classes, dtype=object)[known.outputs.argmax(axis=1)]
    return msgspec.structs.replace(reference, score=score, prediction=distribution(PREDICTION, names))


def scores_of(outputs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the score (n,) of each row, see `streams.records.Prediction.score`."""
    return outputs if outputs.ndim == 1 else outputs.max(axis=1)


def is_id(column: Column) -> bool:
    """Tell whether texts have too many values to be compared."""
    return column.dtype == object and len({*column.tolist()} - {None}) > CATEGORIES_MAX


def outputs_of(reference: Reference) -> dict[str, FeatureReference]:
    """Return the distributions of a reference that are of the model's outputs, by name."""
    found = {SCORE: reference.score, PREDICTION: reference.prediction}
    return {name: each for name, each in found.items() if each is not None}


def _with_losses(reference: Reference, known: KnownOutputs, declaration: ModelDeclaration) -> Reference:
    """Return a reference with the measures of the outputs; without labels they stay unknown."""
    if known.labels is None:
        return reference
    assert reference.score is not None, "made with the outputs"
    measures, scores = Measures(declaration), scores_of(known.outputs)
    measured = _measured(measures, known.outputs, known.labels)
    is_binary = measures.task == "binary"
    positives = known.labels if is_binary else np.zeros(len(known.labels))
    sums = {"labels": np.ones(len(known.labels)), "positives": positives, **measured}
    losses = measured[measures.loss]
    error_max = error_scale(losses) if measures.task == "regression" else None
    clipped = _clipped(measures, measured, error_max)
    blocks = design_effect.Blocks(known.times_ms, declaration.monitoring.loss_block_ms)
    return msgspec.structs.replace(
        reference,
        log_loss=_log_loss(measures, losses, scores, known.labels),
        loss_design_effect=blocks.of_values(clipped[measures.loss]),
        measures={name: float(values.mean()) for name, values in measured.items()},
        measure_errors={name: _standard_error(values, blocks) for name, values in clipped.items()},
        score_sums=_sums(reference.score, scores, sums),
        error_max=error_max,
    )


def _log_loss(
    measures: Measures,
    losses: npt.NDArray[np.float64],
    scores: npt.NDArray[np.float64],
    labels: npt.NDArray[np.float64],
) -> float | None:
    """Return the mean log loss; of a binary model in the same sum as the gates use."""
    if measures.task == "regression":
        return None
    return float((log_losses(labels, scores) if measures.task == "binary" else losses).mean())


def error_scale(errors: Sequence[float] | npt.NDArray[np.float64]) -> float:
    """Return the size at which the absolute errors (n,) of a regression are cut; n > 0."""
    return float(np.quantile(errors, ERROR_QUANTILE, method="inverted_cdf")) or 1.0


def _measured(
    measures: Measures, outputs: npt.NDArray[np.float64], labels: npt.NDArray[np.float64]
) -> dict[str, npt.NDArray[np.float64]]:
    """Return the value of each measure for each row (n,), as drift computes it for served rows."""
    rows = [
        measures.values(_numeric(measures, output), label)
        for output, label in zip(outputs.tolist(), labels.tolist(), strict=True)
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


def _numeric(measures: Measures, output: float | list[float]) -> NumericPrediction:
    if isinstance(output, list):
        score = max(output)
        return NumericPrediction(score, output.index(score), output)
    return NumericPrediction(output, measures.predicted_value(output))


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
    finite = present[np.isfinite(present)]
    return FeatureReference(
        feature=feature,
        counts=counts.tolist(),
        missing=len(values) - len(present),
        edges=edges.tolist(),
        mean=float(finite.mean()) if len(finite) else None,
        deviation=float(finite.std(ddof=1)) if len(finite) > 1 else None,
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
