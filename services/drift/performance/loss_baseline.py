"""The champion's baseline: the mean loss, or mean cost, that is to be expected of it. Pure.

The reference holds what the model reached on the data held out in its training, or on its known rows. A model
without a reference, or whose reference has no labels, gets its baseline from the labels of its first windows:
the upper end of the 95 % interval of their mean.

The mean over held-out data is a sample, too. A model that is as good as then has a higher mean loss in half
of all cases, and one above the limit if the held-out data are few. So the limit is at least the upper end of
the 95 % interval of the baseline: the tolerance, or the sampling error if that is larger.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from services.drift.performance.confidence_intervals import NORMAL_QUANTILE, normal_interval
from services.monitoring.loss_comparison import LossComparison
from services.monitoring.model_metrics import COST, MeasureRange, Measures
from services.monitoring.reference import error_scale
from services.runtime.declaration import ModelDeclaration
from streams import records

FIRST_LABELS = 1000
"""Labels of a champion without a reference from which its error scale follows; fewer give no baseline."""


class LossBaselineState(msgspec.Struct, array_like=True):
    """All that a `LossBaseline` knows."""

    value: float | None = None
    """The mean loss or cost to expect."""
    error_max: float | None = None
    first_errors: list[float] = []
    """While they are too few for a scale."""
    windows: int = 0
    """Closed windows with labels, while there is no baseline."""
    labels: int = 0
    """Labels of these windows; the next two are sums over what is compared."""
    total: float = 0.0
    squares: float = 0.0
    error: float = 0.0
    """Upper end of the 95 % interval of the reference's mean, minus the mean."""


class ExpectedMean(NamedTuple):
    """The mean of a measure in a reference."""

    value: float | None
    """None without a reference, or if it does not have the measure."""
    error: float
    """Upper end of its 95 % interval minus the mean; 0 where it is unknown."""


def expected_mean(reference: records.Reference | None, measure: str) -> ExpectedMean:
    """Return the mean of a measure that a reference promises."""
    if reference is None:
        return ExpectedMean(None, 0.0)
    value = reference.log_loss if measure == "log_loss" else reference.measures.get(measure)
    return ExpectedMean(value, NORMAL_QUANTILE * reference.measure_errors.get(measure, 0.0))


class LossBaseline:
    """The baseline of one champion."""

    def __init__(self, declaration: ModelDeclaration, measures: Measures) -> None:
        """Start without a baseline; `follow` or `restore` gives one."""
        by_cost = declaration.retraining.harm == "cost"
        self.measure = COST if by_cost else measures.loss
        """What is compared: the loss of the task, or the declared cost."""
        self.index = measures.names.index(self.measure)
        """Index of this measure."""
        self.range: MeasureRange | None = None
        """Range to which its values are cut; None while the errors have no scale."""
        self.loss_range: MeasureRange | None = None
        """Range of the loss of the task, whatever is compared; None while the errors have no scale."""
        self.limit: float | None = None
        """The largest mean that is not worse than expected; None without a baseline."""
        self._measures = measures
        self._business = declaration.business if by_cost else None
        self._tolerance = declaration.monitoring.loss_tolerance
        self._windows = declaration.monitoring.loss_windows
        self.restore(LossBaselineState())

    def restore(self, state: LossBaselineState) -> None:
        """Continue from a state."""
        self.state = state
        self._update()

    def follow(self, reference: records.Reference | None) -> None:
        """Take the baseline of another champion."""
        found = expected_mean(reference, self.measure)
        state = LossBaselineState(found.value, reference.error_max if reference else None)
        state.error = found.error
        self.restore(state)

    def add(self, values: Sequence[float]) -> bool:
        """Take the measures of one label; tell whether the errors have just got their scale."""
        state = self.state
        if state.value is None:
            compared = values[self.index]
            state.labels += 1
            state.total += compared
            state.squares += compared * compared
        if self.range is not None:
            return False
        state.first_errors.append(values[0])
        if len(state.first_errors) < FIRST_LABELS:
            return False
        state.error_max, state.first_errors = error_scale(state.first_errors), []
        self._update()
        return True

    def close_window(self) -> bool:
        """End a window; tell whether the baseline has just become known."""
        state = self.state
        if state.value is not None or not state.labels:
            return False
        state.windows += 1
        if state.windows < self._windows or state.labels < FIRST_LABELS:
            return False
        _, state.value = normal_interval(state.labels, state.total, state.squares, 0.0)
        self._update()
        return True

    @property
    def value(self) -> float | None:
        """The mean loss or cost to expect; None while it is unknown."""
        return self.state.value

    @property
    def limit_share(self) -> float | None:
        """The limit as a share of the range; None while one of them is unknown."""
        return None if self.range is None or self.limit is None else self.range.share(self.limit)

    def compare(self, current: float) -> LossComparison | None:
        """Compare a mean loss or cost with the baseline; None without one."""
        if self.value is None:
            return None
        unit = self._business.unit if self._business is not None else ""
        return LossComparison(self.measure, current, self.value, self._allowance(), unit, self.state.error)

    def _update(self) -> None:
        ranges = self._measures.ranges(self.state.error_max)
        self.range = None if ranges is None else ranges[self.index]
        self.loss_range = None if ranges is None else ranges[0]
        comparison = self.compare(0.0)
        self.limit = None if comparison is None else comparison.limit

    def _allowance(self) -> float:
        """Return the tolerance in the unit of the measure: that of a regression is declared as a share."""
        if self._business is not None:
            return self._business.tolerance
        if self._measures.task == "regression":
            return self._tolerance * (self.value or 0.0)
        return self._tolerance
