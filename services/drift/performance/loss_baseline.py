"""What the champion promised: from which mean loss, or mean cost, on it does harm. Pure.

The reference tells what it reached on the window held out in its training. A model without one, because it
was trained elsewhere or goes on learning, promises what the labels of its first windows showed, rounded up to
the end of their 95 % interval.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from services.drift.performance.confidence_intervals import normal_interval
from services.monitoring.model_metrics import COST, MeasureRange, Measures
from services.runtime.declaration import ModelDeclaration
from streams import records

FIRST_LABELS = 1000
"""Of a champion without a reference: of so many its errors get their scale, and fewer promise nothing."""
ERROR_QUANTILE = 0.99
"""Of the absolute errors: where those of a regression are cut."""


class PromiseState(msgspec.Struct, array_like=True):
    """All that a `Promise` knows."""

    promised: float | None = None
    error_max: float | None = None
    first_errors: list[float] = []
    """While they are too few for a scale."""
    windows: int = 0
    """Closed ones with labels, while nothing is promised; and of their labels, of what is judged:"""
    labels: int = 0
    total: float = 0.0
    squares: float = 0.0


class Promise:
    """The promise of one champion."""

    def __init__(self, declaration: ModelDeclaration, measures: Measures) -> None:
        """Nothing is promised before `follow` or `restore`."""
        by_cost = declaration.retraining.harm == "cost"
        self.subject = COST if by_cost else measures.loss
        self.words = self.subject.replace("_", " ")
        self.place = measures.names.index(self.subject)
        """Of what is judged, among the measures."""
        self.range: MeasureRange | None = None
        """Where what is judged is cut to."""
        self.limit: float | None = None
        """From which mean on there is harm; None while nothing is promised."""
        self._measures = measures
        self._business = declaration.business if by_cost else None
        self._tolerance = declaration.monitoring.loss_tolerance
        self._windows = declaration.monitoring.loss_windows
        self.restore(PromiseState())

    def restore(self, state: PromiseState) -> None:
        """Go on from a state."""
        self.state = state
        self._fix()

    def follow(self, reference: records.Reference | None) -> None:
        """Another champion promises something else."""
        self.restore(PromiseState(self._of(reference), reference.error_max if reference else None))

    def see(self, values: Sequence[float]) -> bool:
        """Take the measures of a label; tell whether errors have just got their scale."""
        state = self.state
        if state.promised is None:
            judged = values[self.place]
            state.labels += 1
            state.total += judged
            state.squares += judged * judged
        if self.range is not None:
            return False
        state.first_errors.append(values[0])
        if len(state.first_errors) < FIRST_LABELS:
            return False
        found = np.quantile(state.first_errors, ERROR_QUANTILE, method="inverted_cdf")
        state.error_max, state.first_errors = float(found) or 1.0, []
        self._fix()
        return True

    def close_window(self) -> bool:
        """End a window; tell whether the promise has just become known."""
        state = self.state
        if state.promised is not None or not state.labels:
            return False
        state.windows += 1
        if state.windows < self._windows or state.labels < FIRST_LABELS:
            return False
        _, state.promised = normal_interval(state.labels, state.total, state.squares, 0.0)
        self._fix()
        return True

    def _fix(self) -> None:
        promised, ranges = self.state.promised, self._measures.ranges(self.state.error_max)
        self.range = None if ranges is None else ranges[self.place]
        self.limit = None if promised is None else promised + self.tolerance

    @property
    def tolerance(self) -> float:
        """How far above the promise is no harm yet."""
        if self._business is not None:
            return self._business.tolerance
        if self._measures.task == "regression":
            return self._tolerance * (self.state.promised or 0.0)
        return self._tolerance

    def _of(self, reference: records.Reference | None) -> float | None:
        if reference is None:
            return None
        if self.subject == "log_loss":
            return reference.log_loss
        return reference.measures.get(self.subject)
