"""What the champion promised: from which mean loss, or mean cost, on it does harm. Pure.

The reference tells what it reached on the window held out in its training. A model without one, because it
was trained elsewhere or goes on learning, promises what its first labels showed, rounded up to the end of
their 95 % interval.
"""

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from services.drift.intervals import NORMAL_QUANTILE
from services.measures import COST, Measures, Range
from services.model import ModelDeclaration
from streams import records

FIRST_LABELS = 1000
"""Of a champion without a reference."""
ERROR_QUANTILE = 0.99
"""Of the absolute errors: where those of a regression are cut."""


class PromiseState(msgspec.Struct, array_like=True):
    """All that a `Promise` knows."""

    first: list[list[float]] = []
    """The values of the first labels, while they are too few."""
    promised: float | None = None
    error_max: float | None = None


class Promise:
    """The promise of one champion."""

    def __init__(self, declaration: ModelDeclaration, measures: Measures) -> None:
        """Nothing is promised before `follow` or `restore`."""
        by_cost = declaration.retraining.harm == "cost"
        self.subject = COST if by_cost else measures.loss
        self.words = self.subject.replace("_", " ")
        self.place = measures.names.index(self.subject)
        """Of what is judged, among the measures."""
        self._measures = measures
        self._business = declaration.business if by_cost else None
        self._tolerance = declaration.monitoring.loss_tolerance
        self.state = PromiseState()

    def follow(self, reference: records.Reference | None) -> None:
        """Another champion promises something else."""
        self.state = PromiseState([], self._of(reference), reference.error_max if reference else None)

    def see(self, values: Sequence[float]) -> bool:
        """Take the measures of a label; tell whether the promise has just become known."""
        state = self.state
        if self.is_known:
            return False
        state.first.append(list(values))
        if len(state.first) < FIRST_LABELS:
            return False
        found = np.array(state.first)
        if state.error_max is None and self._measures.task == "regression":
            errors = np.quantile(found[:, 0], ERROR_QUANTILE, method="inverted_cdf")
            state.error_max = float(errors) or 1.0
        if state.promised is None:
            judged = found[:, self.place]
            distance = NORMAL_QUANTILE * float(judged.std()) / math.sqrt(len(judged))
            state.promised = float(judged.mean()) + distance
        state.first = []
        return True

    @property
    def is_known(self) -> bool:
        """Whether there is a limit, and a range for what is judged."""
        return self.state.promised is not None and self.range is not None

    @property
    def tolerance(self) -> float:
        """How far above the promise is no harm yet."""
        if self._business is not None:
            return self._business.tolerance
        if self._measures.task == "regression":
            return self._tolerance * (self.state.promised or 0.0)
        return self._tolerance

    @property
    def limit(self) -> float | None:
        """From which mean on there is harm; None while nothing is promised."""
        return None if self.state.promised is None else self.state.promised + self.tolerance

    @property
    def range(self) -> Range | None:
        """Where what is judged is cut to."""
        ranges = self._measures.ranges(self.state.error_max)
        return None if ranges is None else ranges[self.place]

    def _of(self, reference: records.Reference | None) -> float | None:
        if reference is None:
            return None
        if self.subject == "log_loss":
            return reference.log_loss
        return reference.measures.get(self.subject)
