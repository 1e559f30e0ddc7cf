"""How far a training set is from the reference of the serving champion. Pure."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from services.runtime.declaration import ModelDeclaration
from streams.records import FeatureReference, Reference

if TYPE_CHECKING:
    from services.retraining.training_set import TrainingSet

SHARE_MIN = 1e-4
"""Shares of bins are at least this, so that an empty bin counts as much, but not infinitely."""


def of_features(data: "TrainingSet", reference: Reference) -> dict[str, float]:
    """Return the population stability index by feature, of those that both have.

    From 0.2 on a shift is usually called large; a training set that a drift has asked for has such ones.
    """
    known = {each.feature: each for each in reference.features}
    return {
        name: stability_index(known[name], data.features[name].to_numpy())
        for name in map(str, data.features.columns)
        if name in known and name not in data.times
    }


def stability_index(reference: FeatureReference, values: npt.NDArray[Any]) -> float:
    """Return the population stability index of values (n,), n > 0; missing and new ones are bins, too."""
    expected = np.array([*reference.counts, 0, reference.missing], dtype=np.float64)
    new, missing = len(reference.counts), len(reference.counts) + 1
    if reference.categories is not None:
        bin_of = {name: number for number, name in enumerate(reference.categories)}
        bins = np.array([missing if each is None else bin_of.get(str(each), new) for each in values])
    else:
        numbers = values.astype(np.float64)
        inner = np.searchsorted(reference.edges or [], numbers, side="right")
        bins = np.where(np.isnan(numbers), missing, inner)
    seen = np.bincount(bins, minlength=missing + 1)
    shares = [np.maximum(counts / max(counts.sum(), 1), SHARE_MIN) for counts in (expected, seen)]
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def label_shares(
    data: "TrainingSet", declaration: ModelDeclaration, reference: Reference | None
) -> dict[str, float]:
    """Return the share of each class among the labels, and of label 1 in the reference if it is known."""
    labels = data.rows["label"].to_numpy(dtype=np.float64)
    names = declaration.class_names
    found = {name: float(np.mean(labels == number)) for number, name in enumerate(names)}
    sums = reference.score_sums if reference is not None else {}
    if declaration.task == "binary" and any(sums.get("labels", ())):
        found["reference 1"] = sum(sums["positives"]) / sum(sums["labels"])
    return found
