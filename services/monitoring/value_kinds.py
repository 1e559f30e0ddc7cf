"""The kinds of values that are watched by their share: missing, out of range, new and rare ones. Pure.

Their ranks say little about them: values that resemble each other for days count as few, but a value that
the training set never had is no matter of days.
"""

from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from streams.records import FeatureReference, IndicatorReference

MISSING, NEW, RARE, BELOW, ABOVE = "missing", "new", "rare", "below", "above"
KINDS_MAX = 3
"""Maximum kinds of one feature."""
RARE_SHARE_MAX = 1 / 512
"""Maximum share of all rare categories together. A reference of 27,000 rows has about 50 such values."""
UNMEASURED_EFFECT_MAX = 64.0
"""Maximum design effect where the reference has none for the kind; about the rows of an hour in a small
stream. Values out of range keep the design effect of the feature."""


class ValueKinds(NamedTuple):
    """The kinds of one feature's values."""

    names: tuple[str, ...]
    """Names of the kinds, `KINDS_MAX` of them at most."""
    of_bin: npt.NDArray[np.int8]
    """The kind of each bin, 1 for the first name; 0: an ordinary value. Bins are those of `FeatureBinner`."""
    references: tuple[IndicatorReference, ...]
    """The values of each kind in the reference."""
    rows: int
    """All values of the reference."""


def kinds_of(reference: FeatureReference) -> ValueKinds:
    """Return the kinds of a feature's values."""
    counts = np.array(reference.counts, dtype=np.int64)
    known = _of_bins(reference, counts)
    names = tuple(dict.fromkeys([MISSING, *filter(None, known)]))
    of_bin = np.array([names.index(name) + 1 if name else 0 for name in known], dtype=np.int8)
    found = tuple(reference.indicators.get(name) or _unmeasured(reference, name) for name in names)
    return ValueKinds(names, of_bin, found, int(counts.sum()) + reference.missing)


def kinds_in_segment(reference: FeatureReference, segment: str, rows: int) -> ValueKinds:
    """Return the kinds of a feature's values among the rows of a segment.

    Missing values are counted by segment. Of the other kinds, and of a feature with a season, all values of
    the reference may be in this segment. The design effects are those of all rows, which bound those within
    a segment where bursts concern all rows.

    Args:
        reference: The feature's reference.
        segment: Its name.
        rows: Rows of the segment in the reference.
    """
    kinds = kinds_of(reference)
    most = [min(each.rows, rows) for each in kinds.references]
    if segment in reference.segments:
        most[kinds.names.index(MISSING)] = reference.segments[segment][-1]
    references = tuple(
        msgspec.structs.replace(each, rows=count) for each, count in zip(kinds.references, most, strict=True)
    )
    return kinds._replace(references=references, rows=rows)


def rare_categories(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return which categories are rare: the least frequent ones that together have `RARE_SHARE_MAX`.

    Args:
        counts: Values by category, shape ``(n_categories,)``.
    """
    order = np.argsort(counts, kind="stable")
    rare = np.zeros(len(counts), dtype=bool)
    rare[order] = np.cumsum(counts[order]) <= counts.sum() * RARE_SHARE_MAX
    return rare


def rows_of_rare(counts: npt.NDArray[np.int64]) -> int:
    """Return the rows of rare categories, with one more each: they were chosen because they are few."""
    chosen = counts[rare_categories(counts)]
    return int(chosen.sum()) + len(chosen)


def _of_bins(reference: FeatureReference, counts: npt.NDArray[np.int64]) -> list[str]:
    """Return the name of each bin's kind; empty for ordinary values."""
    if reference.categories is not None:
        return [*(RARE if rare else "" for rare in rare_categories(counts).tolist()), NEW, MISSING]
    if not reference.edges:  # the reference has missing values only, if any
        return [NEW] * len(counts) + [MISSING]
    names = [""] * (len(counts) + 1)
    names[-1] = MISSING
    if not counts[0] and not counts[-1]:  # else the edges are not the range
        names[0], names[-2] = BELOW, ABOVE
    return names


def _unmeasured(reference: FeatureReference, name: str) -> IndicatorReference:
    """Return the values of a kind in a reference that has no indicators."""
    counts = np.array(reference.counts, dtype=np.int64)
    bounded = min(reference.design_effect, UNMEASURED_EFFECT_MAX)
    if name == MISSING:
        return IndicatorReference(rows=reference.missing, design_effect=bounded)
    if name == NEW:
        return IndicatorReference(rows=int(np.count_nonzero(counts == 1)), design_effect=bounded)
    if name == RARE:
        return IndicatorReference(rows=rows_of_rare(counts), design_effect=bounded)
    return IndicatorReference(rows=0, design_effect=reference.design_effect)
