"""The reference against which drift is measured: what the model was trained on, in frozen bins. Pure."""

import collections
from typing import Any

import numpy as np
import numpy.typing as npt

from streams.records import FeatureReference, Reference

BINS_MAX = 64
"""Of a number: equal shares of the rows where its values allow it, and one bin on either side of them.
A KS distance is then within 1/64 of the exact one."""


def build(
    version: int, features: Any, scores: npt.NDArray[np.float64], log_loss: float, text: list[str]
) -> Reference:
    """Make the reference of a model.

    Args:
        version: Of the model.
        features: The frame (n_rows, n_features) that it was trained on; its columns give the order.
        scores: Of the held-out rows.
        log_loss: On the held-out rows.
        text: Those features that hold text.
    """
    return Reference(
        version=version,
        features=[
            of_categories(name, features[name].to_numpy(dtype=object))
            if name in text
            else of_numbers(name, features[name].to_numpy())
            for name in features.columns
        ],
        score=of_numbers("score", scores),
        log_loss=log_loss,
    )


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
