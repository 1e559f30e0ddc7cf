"""The realised cost of a model's predictions since counting began, and the expected cost. Pure.

Only the labels of mature cohorts count, and later labels of these as they come. Sums are whole numbers of
1 / `RAW_STEPS` of a unit, so they do not depend on the order of labels and cohorts.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from services.drift.performance.cohorts import RAW, RAW_STEPS, PredictionCohort
from services.monitoring.model_metrics import COST
from streams import records

LINEAGES_MAX = 16
"""Maximum champions that are remembered; labels of still earlier ones count without a comparison."""


class ChampionCost(msgspec.Struct, array_like=True):
    """The sums of one champion."""

    lineage: int
    reference: float | None
    """Mean cost of this champion on the data held out in its training."""
    labels: int = 0
    steps: int = 0


class CostTotalsState(msgspec.Struct, array_like=True):
    """All that a `CostTotals` knows."""

    labels: int = 0
    steps: int = 0
    compared: int = 0
    """Labels of champions whose reference has a cost; ``saved`` is about these."""
    saved: int = 0
    """Expected minus realised cost, in steps."""
    champions: list[ChampionCost] = []
    """Costs by champion, in the order of their promotion; the present champion is the last."""


class CostTotals:
    """Adds up the declared cost of the predictions of all champions of a model."""

    def __init__(self, measures: Sequence[str], state: CostTotalsState) -> None:
        """Start empty, or from a state; without a cost among the measures nothing is added."""
        self._index = measures.index(COST) if COST in measures else None
        self.state = state

    def follow(self, lineage: int, reference: records.Reference | None) -> None:
        """Note the present champion, and the cost to be expected of it."""
        if self._index is None:
            return
        expected = reference.measures.get(COST) if reference is not None else None
        champions = self.state.champions
        if champions and champions[-1].lineage == lineage:
            champions[-1].reference = expected
            return
        known = next((each for each in champions if each.lineage == lineage), ChampionCost(lineage, expected))
        others = [each for each in champions if each.lineage != lineage]
        known.reference = expected
        self.state.champions = [*others, known][-LINEAGES_MAX:]

    def add(self, lineage: int, labels: int, moments: npt.NDArray[np.float64]) -> None:
        """Add labels of a champion's cohort, by the moments of all measures ``(n_measures, 4)``."""
        if self._index is None:
            return
        state, steps = self.state, round(float(moments[self._index, RAW]) * RAW_STEPS)
        state.labels += labels
        state.steps += steps
        champion = self._champion(lineage)
        if champion is None:
            return
        champion.labels += labels
        champion.steps += steps
        if champion.reference is not None:
            state.compared += labels
            state.saved += labels * round(champion.reference * RAW_STEPS) - steps

    def account(self, cohort: PredictionCohort) -> records.CostAccount | None:
        """Return the account of a cohort for its report; None without declared costs."""
        if self._index is None:
            return None
        state, champion = self.state, self._champion(cohort.version)
        return records.CostAccount(
            total=float(cohort.all.moments[self._index, RAW]),
            reference=champion.reference if champion else None,
            before=self._before(cohort.version),
            cumulative_labels=state.labels,
            cumulative=state.steps / RAW_STEPS,
            compared_labels=state.compared,
            saved=state.saved / RAW_STEPS if state.compared else None,
        )

    def _champion(self, lineage: int) -> ChampionCost | None:
        return next((each for each in self.state.champions if each.lineage == lineage), None)

    def _before(self, lineage: int) -> float | None:
        """Return the mean cost of the champion before another one; None if it has none."""
        lineages = [each.lineage for each in self.state.champions]
        at = lineages.index(lineage) - 1 if lineage in lineages else -1
        before = self.state.champions[at] if at >= 0 else None
        return before.steps / before.labels / RAW_STEPS if before and before.labels else None
