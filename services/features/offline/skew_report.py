"""Compare served feature values with recomputed ones, and report the differences. Pure.

For one feature of one request, the served value is

- *equal* to the recomputed value, to the bit, or both are null;
- *missing*: it is null, but the recomputed one is not;
- *extra*: it is not null, but the recomputed one is;
- *mismatched*: another value.

The distance of two numbers is their absolute difference; the symmetric mean absolute percentage error
(SMAPE, from 0 to 2) of a feature is the mean of ``2|a - b| / (|a| + |b|)`` over all pairs of values.
"""

import math
from collections.abc import Sequence
from enum import StrEnum

import msgspec

from streams.records import FeatureValue

EXAMPLES_MAX = 20
"""Maximum differences listed in a report: the newest."""


class ComparisonResult(StrEnum):
    """The result of comparing one value."""

    EQUAL = "equal"
    MISMATCHED = "mismatched"
    MISSING = "missing"
    EXTRA = "extra"


class Difference(msgspec.Struct, kw_only=True, frozen=True):
    """A served value that differs from the recomputed one."""

    prediction_id: str
    event_time_ms: int
    view: str
    feature: str
    result: ComparisonResult
    served: FeatureValue
    recomputed: FeatureValue


class FeatureSkew(msgspec.Struct, kw_only=True):
    """Totals of one feature."""

    view: str
    feature: str
    equal: int = 0
    mismatched: int = 0
    missing: int = 0
    extra: int = 0
    distance_max: float = 0.0
    relative_sum: float = 0.0
    """Sum of ``2|a - b| / (|a| + |b|)``."""

    def count(self, result: ComparisonResult) -> None:
        """Count a value."""
        setattr(self, result, getattr(self, result) + 1)

    def measure(self, served: FeatureValue, recomputed: FeatureValue) -> None:
        """Add the distance of two different numbers; texts have none."""
        if isinstance(served, float) and isinstance(recomputed, float):
            distance, size = abs(served - recomputed), abs(served) + abs(recomputed)
            self.distance_max = max(self.distance_max, distance)
            self.relative_sum += 2 * distance / size if size else 0.0

    @property
    def different(self) -> int:
        """Number of served values that differ from the recomputed ones."""
        return self.mismatched + self.missing + self.extra

    @property
    def compared(self) -> int:
        """Number of compared values."""
        return self.equal + self.different

    @property
    def smape(self) -> float:
        """The symmetric mean absolute percentage error over all pairs of values."""
        pairs = self.equal + self.mismatched
        return self.relative_sum / pairs if pairs else 0.0


class SkewReport(msgspec.Struct, kw_only=True):
    """All comparisons for one model since the report began."""

    model: str
    features: list[FeatureSkew]
    """Features in the order of the service."""
    checked: int = 0
    """Compared requests; a feature that cannot be recomputed is left out."""
    behind: int = 0
    """Requests not compared because a view was not complete up to their event time when they were served."""
    unreadable: int = 0
    """Requests not compared because they are not archived, or were served with other features."""
    checked_until_ms: int | None = None
    """Event time of the newest compared request."""
    differences: list[Difference] = []

    @property
    def different(self) -> int:
        """Number of served values that differ from the recomputed ones."""
        return sum(item.different for item in self.features)

    def compare(
        self,
        prediction_id: str,
        event_time_ms: int,
        served: Sequence[FeatureValue],
        recomputed: Sequence[FeatureValue | msgspec.UnsetType],
    ) -> None:
        """Add one request; values in the order of the features, UNSET where a value cannot be recomputed."""
        for item, value, expected in zip(self.features, served, recomputed, strict=True):
            if expected is msgspec.UNSET:
                continue
            result = compare_values(value, expected)
            item.count(result)
            if result is ComparisonResult.EQUAL:
                continue
            if result is ComparisonResult.MISMATCHED:
                item.measure(value, expected)
            difference = Difference(
                prediction_id=prediction_id,
                event_time_ms=event_time_ms,
                view=item.view,
                feature=item.feature,
                result=result,
                served=value,
                recomputed=expected,
            )
            self.differences = [*self.differences, difference][-EXAMPLES_MAX:]
        self.checked += 1
        self.checked_until_ms = max(event_time_ms, self.checked_until_ms or event_time_ms)


def compare_values(served: FeatureValue, recomputed: FeatureValue) -> ComparisonResult:
    """Compare a served value with the recomputed one; 0.0 and -0.0 differ."""
    if served is None or recomputed is None:
        if served is recomputed:
            return ComparisonResult.EQUAL
        return ComparisonResult.MISSING if served is None else ComparisonResult.EXTRA
    if isinstance(served, float) and isinstance(recomputed, float):
        same = served == recomputed and math.copysign(1.0, served) == math.copysign(1.0, recomputed)
        return ComparisonResult.EQUAL if same else ComparisonResult.MISMATCHED
    return ComparisonResult.EQUAL if served == recomputed else ComparisonResult.MISMATCHED


def report_lines(report: SkewReport) -> list[str]:
    """Return the report as lines of text: a summary, each feature, each listed difference."""
    width = max((len(item.feature) for item in report.features), default=0)
    summary = (
        f"{report.model}: {report.checked} requests compared, {report.different} values differ; "
        f"not compared: {report.behind} served from lagging views, {report.unreadable} unreadable"
    )
    return [
        summary,
        *(f"  {item.feature:<{width}}  {_totals(item)}" for item in report.features),
        *(f"  {_difference_line(difference)}" for difference in report.differences),
    ]


def _totals(item: FeatureSkew) -> str:
    if not item.compared:
        return "nothing compared"
    return (
        f"{item.equal} equal, {item.mismatched} mismatched, {item.missing} missing, {item.extra} extra; "
        f"distance at most {item.distance_max:.6g}, SMAPE {item.smape:.6g}"
    )


def _difference_line(difference: Difference) -> str:
    return (
        f"{difference.prediction_id} at {difference.event_time_ms}: "
        f"{difference.feature} {difference.result}: served {difference.served!r}, "
        f"recomputed {difference.recomputed!r}"
    )
