"""Which rows to train on: all, the recent ones, or those since the change; chosen on later days."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from services.retraining.candidate import Split
from services.retraining.evaluation import Numbers, Predict, RowLosses
from services.retraining.gates.block_mean import BlockMean, blocks_of

if TYPE_CHECKING:
    import pandas as pd

ALL, RECENT, SINCE_CHANGE = "all", "recent", "since_change"
LATER_BLOCKS = 7
"""Blocks of the later days: a week of days, two of which may have no rows (`BLOCKS_MIN`). More of them would
leave few rows since a change to train on."""


@dataclasses.dataclass(frozen=True)
class WindowChoice:
    """The chosen training window."""

    name: str
    from_ms: int
    """Event time from which rows are trained on."""
    differences: Mapping[str, float]
    """By window, its mean loss on the later days less that of all rows; one with too few rows is absent."""


def windows(
    times_ms: npt.NDArray[np.int64], recent_ms: int | None, change_ms: int | None, minimum_rows: int
) -> dict[str, int]:
    """Return by name the event time from which each possible window begins; ``all`` is always there.

    Args:
        times_ms: Event times (n,) of the rows to train on, n > 0.
        recent_ms: Length of the recent window; None: there is none.
        change_ms: When the change began that drift has found; None: it is not known.
        minimum_rows: ``retraining.minimum_labels``: a window with fewer rows is left out.
    """
    begins = {ALL: int(times_ms.min())}
    if recent_ms is not None:
        begins[RECENT] = int(times_ms.max()) - recent_ms
    if change_ms is not None:
        begins[SINCE_CHANGE] = change_ms
    return {
        name: from_ms
        for name, from_ms in begins.items()
        if name == ALL or (from_ms > begins[ALL] and np.count_nonzero(times_ms >= from_ms) >= minimum_rows)
    }


def choose(
    fitted: Callable[["pd.DataFrame", Numbers], Any],
    features: "pd.DataFrame",
    labels: Numbers,
    times_ms: npt.NDArray[np.int64],
    parts: Split,
    begins: Mapping[str, int],
    predict: Predict,
    losses: RowLosses,
    block_ms: int,
) -> WindowChoice:
    """Return the window whose estimator has the lowest loss on later days.

    Another window than all rows must be better by more than one standard error of the days: more rows are
    the safer choice. Of 100 streams without a change five got another window so, of 100 with a slope of 1
    that became 0.5 eighty. The later days must not be the held-out days of the gates, or these would be too
    kind.

    Args:
        fitted: Returns an estimator that was fitted on features and labels.
        features: (n, n_features)
        labels: (n,)
        times_ms: Event times (n,).
        parts: Which rows (n,) may be trained on, and the later days.
        begins: See `windows`.
        predict: Returns outputs of a fitted estimator.
        losses: Of the rows, see `services.retraining.evaluation.losses`.
        block_ms: ``gates.block_hours``.
    """
    later = parts.held_out
    block_of = blocks_of(times_ms[later], block_ms)

    def losses_from(from_ms: int) -> Numbers:
        rows = parts.trained & (times_ms >= from_ms)
        estimator = fitted(features[rows], labels[rows])
        return losses(predict(estimator, features[later]), labels[later])

    of_all = losses_from(begins[ALL]) if len(begins) > 1 else np.zeros(0)
    chosen, differences = ALL, {ALL: 0.0}
    for name, from_ms in begins.items():
        found = None if name == ALL else BlockMean.of(losses_from(from_ms) - of_all, block_of)
        if found is not None:
            differences[name] = found.mean
            if found.mean + found.error < 0 and found.mean < differences[chosen]:
                chosen = name
    return WindowChoice(chosen, begins[chosen], differences)
