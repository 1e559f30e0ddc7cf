"""Compares a mean loss with its baseline, and phrases the result for alarm texts. Pure."""

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class LossComparison:
    """A mean loss or cost, and its baseline from the model's training or from its first labels.

    >>> found = LossComparison("log_loss", 0.637, 0.544, 0.05)
    >>> found.is_worse
    True
    >>> found.phrase("the mean log loss")
    'the mean log loss is 0.637, above the limit 0.594 (baseline 0.544 + tolerance 0.050)'
    """

    measure: str
    """``log_loss``, ``absolute_error`` or ``cost``."""
    current: float
    baseline: float
    tolerance: float = 0.0
    """Maximum rise above the baseline that does not count as worse, in the unit of the measure."""
    unit: str = ""
    """The declared unit of a cost; empty for a loss."""
    baseline_error: float = 0.0
    """Upper end of the baseline's 95 % interval minus the baseline. It replaces a smaller tolerance."""

    @property
    def limit(self) -> float:
        """The largest mean that is not worse."""
        return self.baseline + max(self.tolerance, self.baseline_error)

    @property
    def is_worse(self) -> bool:
        """Whether the current mean is above the limit."""
        return self.is_worse_by(0.0)

    def is_worse_by(self, margin: float) -> bool:
        """Tell whether the current mean is above the limit by more than a margin."""
        return self.current > self.limit + margin

    def phrase(self, subject: str, low: float | None = None) -> str:
        """Say how a subject, such as ``the mean cost since 3 Feb``, compares with its limit.

        Args:
            subject: What has this mean.
            low: Lower end of the mean with a confidence of 95 %.
        """
        side = "above" if self.is_worse else "within"
        certain = "" if low is None else f" (at least {self._amount(low)} with 95 % confidence)"
        return f"{subject} is {self._amount(self.current)}{certain}, {side} {self.phrase_limit()}"

    def phrase_limit(self) -> str:
        """Name the limit and its two parts."""
        margin = f"tolerance {self._amount(self.tolerance)}"
        if self.baseline_error > self.tolerance:
            margin = f"sampling error {self._amount(self.baseline_error)}"
        return f"the limit {self._amount(self.limit)} (baseline {self._amount(self.baseline)} + {margin})"

    def _amount(self, value: float) -> str:
        return f"{value:.3f} {self.unit}".rstrip()
