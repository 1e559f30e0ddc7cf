"""Differences of arms' losses from the champion's since both answer, with confidence sequences. Pure.

Only labels of windows in which the arm and the same champion answered count. Otherwise a storm that only one
of them has seen would count against that one. Labels that come too late for their window do not count.
"""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from services.drift.performance.confidence_intervals import ALPHA, MeanConfidenceSequence
from services.drift.performance.loss_baseline import LossBaseline
from services.drift.windows.arm_sums import ArmKey, ArmSumsState, compared_with
from services.drift.windows.measure_sums import ComparedSums, Comparison
from services.model_registry.traffic_split import CHAMPION
from services.monitoring.pending_predictions import PendingPrediction
from streams import records

DIFFERENCES_MAX = 64
"""Maximum arms and versions, those with the latest labels: as many as a window has."""


class RunningDifference(msgspec.Struct, array_like=True):
    """The losses of one version in one arm, as shares of their range, and those of the champion."""

    arm: str
    version: int
    shadow: bool
    lineage: int
    """The champion's lineage."""
    own: MeanConfidenceSequence = msgspec.field(default_factory=MeanConfidenceSequence)
    """The losses of the arm. A shadow has its differences from the champion, where 0.5 is no difference."""
    champion: MeanConfidenceSequence = msgspec.field(default_factory=MeanConfidenceSequence)
    """Empty for a shadow."""


class RunningFigures(NamedTuple):
    """A difference with the interval that holds at all times together, in the unit of the loss."""

    labels: int
    mean: float
    low: float
    high: float

    def of(self, difference: records.LossDifference) -> records.LossDifference:
        """Return the difference of a window with these running figures."""
        return msgspec.structs.replace(
            difference,
            running_labels=self.labels,
            running=self.mean,
            running_low=self.low,
            running_high=self.high,
        )


class RunningDifferences:
    """The running differences of one model's arms."""

    def __init__(
        self, baseline: LossBaseline, states: Iterable[RunningDifference] = (), *, learns: bool = False
    ) -> None:
        """Start without any, or from those of a state.

        Args:
            baseline: It knows the range of losses.
            states: See `state`.
            learns: Whether all versions of the champion's arm count as one champion.
        """
        self._baseline = baseline
        self._learns = learns
        self._found = {(ArmKey(each.arm, each.version, each.shadow), each.lineage): each for each in states}

    def state(self) -> list[RunningDifference]:
        """Return what `__init__` takes."""
        return list(self._found.values())

    def add_window(self, arms: Iterable[ArmSumsState], champion: ComparedSums | None, lineage: int) -> None:
        """Add the labels of a closed window.

        Args:
            arms: Those that are not the champion.
            champion: The losses of the champion.
            lineage: Its lineage; differences from another champion are forgotten.
        """
        self._found = {key: each for key, each in self._found.items() if key[1] == lineage}
        for arm in arms:
            losses = compared_with(arm, lineage)
            if losses is None or not losses.shares.total.count or not (arm.shadow or champion):
                continue
            key = ArmKey(arm.arm, arm.version, arm.shadow), lineage
            found = self._found.pop(key, None) or RunningDifference(*key[0], lineage)
            self._found[key] = found  # the last one has the latest labels
            _add(found.own, losses)
            if champion is not None and not arm.shadow:
                _add(found.champion, champion)
        for key in list(self._found)[:-DIFFERENCES_MAX]:
            del self._found[key]

    def comparison(self, entry: PendingPrediction) -> Comparison:
        """Return with what the losses of a labelled prediction, and of its shadows, are compared."""
        is_champions = entry.arm == CHAMPION and entry.version > 0
        lineage = 1 if self._learns else entry.version
        return Comparison(lineage if is_champions else None, self._baseline.loss_range)

    def figures(self, key: ArmKey, lineage: int) -> RunningFigures | None:
        """Return the running figures of an arm; None without labels of it."""
        found, loss_range = self._found.get((key, lineage)), self._baseline.loss_range
        if found is None or loss_range is None:
            return None
        width = loss_range.high - loss_range.low
        if found.shadow:
            low, high = found.own.interval()
            shares = 2 * found.own.mean - 1, 2 * low - 1, 2 * high - 1
        elif not found.champion.count:
            return None
        else:
            (low, high), (other_low, other_high) = (
                each.interval(ALPHA / 2) for each in (found.own, found.champion)
            )
            shares = found.own.mean - found.champion.mean, low - other_high, high - other_low
        mean, low, high = (share * width for share in shares)
        return RunningFigures(found.own.count, mean, low, high)


def _add(sequence: MeanConfidenceSequence, losses: ComparedSums) -> None:
    shares = losses.shares
    if shares.total.count:
        sequence.add(shares.total.count, shares.total.sum, shares.squares.sum)
