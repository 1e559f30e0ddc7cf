"""The reference of a version: what drift compares live values with."""

from typing import Literal

import msgspec

from streams.records.field_types import Int64


class IndicatorReference(msgspec.Struct, kw_only=True, frozen=True):
    """Values of one kind in the training set, see `services.monitoring.value_kinds`."""

    rows: Int64
    """Number of these values, or of those that a part of the training set had and its other parts had not."""
    design_effect: float
    """Design effect of the indicator "the value is of this kind", see `FeatureReference.design_effect`."""


class FeatureReference(msgspec.Struct, kw_only=True, frozen=True):
    """The distribution of one feature (or of the score) in the training set, in fixed bins.

    Numeric: ``edges`` are inner quantile edges, strictly increasing; bin i holds
    ``edges[i-1] <= x < edges[i]`` and ``counts`` has ``len(edges) + 1`` entries; the first and the last
    bin are empty if the outermost edges are the range.
    Categorical: ``categories`` are sorted by name; ``counts`` has one entry for each.
    """

    feature: str
    counts: list[Int64]
    missing: Int64
    edges: list[float] | None = None
    categories: list[str] | None = None
    season: list[Literal["hour", "weekday", "month"]] = []
    """Parts of the event time with which the distribution of this feature is known to change."""
    seasons: dict[str, list[Int64]] = {}
    """Counts by season (see `services.monitoring.seasons`), the missing values last."""
    segments: dict[str, list[Int64]] = {}
    """Counts by declared segment (``origin=EWR``), the missing values last. Empty for the feature whose
    values are the segments, and for features with a season, because they change with the season
    everywhere."""
    design_effect: float = 1.0
    """Variance of the mean over a block of time, divided by that of independent values."""
    indicators: dict[str, IndicatorReference] = {}
    """Counts by kind of value: ``missing``, and ``below`` and ``above`` the range, or ``new`` and ``rare``
    categories. Empty in references of older versions."""
    mean: float | None = None
    """Mean of the numbers; null for categories and in references of older versions."""
    deviation: float | None = None
    """Standard deviation of the numbers; null as ``mean``, and for a single number."""
    importance: float | None = None
    """Permutation importance: by how much the loss on the held-out window rises when this feature is
    shuffled among its rows; null if it was not measured."""


class PairReference(msgspec.Struct, kw_only=True, frozen=True):
    """Correlations of features in the training set: sums of rank scores (`monitoring.rank_correlation`).

    Products and their squares are those of the upper triangle of all pairs with the diagonal, row by row.
    """

    rows: Int64
    sums: list[int]
    products: list[int]
    squares: list[int]
    design_effects: list[float] = []
    """Design effects of the products, of the pairs without the diagonal. Empty in references of older
    versions."""


class Reference(msgspec.Struct, kw_only=True, frozen=True):
    """Known rows of a version in numbers, with which drift compares later windows.

    The rows are those of its training set, of the file given at its registration, or of the first labels of a
    model that learns online.
    """

    version: Int64
    """The version; for a model that learns online, the first one that is compared with this reference."""
    features: list[FeatureReference]
    score: FeatureReference | None
    log_loss: float | None
    """Log loss on the window held out in training, or on the known rows; null without labels, and for a
    regression."""
    loss_design_effect: float = 1.0
    """Design effect of the losses on that window, see `FeatureReference.design_effect`."""
    pairs: PairReference | None = None
    """Correlations of the first 64 features."""
    measures: dict[str, float] = {}
    """All measures on that window; see `services.monitoring.model_metrics`."""
    measure_errors: dict[str, float] = {}
    """Standard errors of the means in ``measures``, with the design effect of each measure; empty in
    references of older versions, whose means count as exact."""
    score_sums: dict[str, list[float]] = {}
    """Results of that window by bin of the score: ``labels``, ``positives``, and the sum of each measure."""
    error_max: float | None = None
    """Regression: the 99th percentile of the errors, at which intervals and detectors clip them."""
    prediction: FeatureReference | None = None
    """Multiclass: the predicted classes; null for other tasks and in references of older versions."""
