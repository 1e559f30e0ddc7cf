"""Served values against recomputed ones: what differs, by how much, and a report of it. Pure.

Of one feature of one request, the served value is

- *equal* to the recomputed one, to the bit, or both are null;
- *missing*: null, though there was a value;
- *extra*: a value, though there was none;
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
"""Differences told one by one: the newest."""
_BUCKETS = 2**32


class Result(StrEnum):
    """What came of one value."""

    EQUAL = "equal"
    MISMATCHED = "mismatched"
    MISSING = "missing"
    EXTRA = "extra"


class Difference(msgspec.Struct, kw_only=True, frozen=True):
    """One value that was served otherwise than the definition says."""

    prediction_id: str
    event_time_ms: int
    view: str
    feature: str
    result: Result
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
    """Of ``2|a - b| / (|a| + |b|)``."""

    def count(self, result: Result) -> None:
        """Count a value."""
        setattr(self, result, getattr(self, result) + 1)

    def measure(self, was: FeatureValue, should_be: FeatureValue) -> None:
        """Add the distance of two numbers that differ; texts have none."""
        if isinstance(was, float) and isinstance(should_be, float):
            distance, size = abs(was - should_be), abs(was) + abs(should_be)
            self.distance_max = max(self.distance_max, distance)
            self.relative_sum += 2 * distance / size if size else 0.0

    @property
    def different(self) -> int:
        """How many values were served otherwise than the definition says."""
        return self.mismatched + self.missing + self.extra

    @property
    def compared(self) -> int:
        """How many values were compared."""
        return self.equal + self.different

    @property
    def smape(self) -> float:
        """The symmetric mean absolute percentage error, of pairs of numbers."""
        pairs = self.equal + self.mismatched
        return self.relative_sum / pairs if pairs else 0.0


class SkewReport(msgspec.Struct, kw_only=True):
    """All that was compared for one model since the report was begun."""

    model: str
    features: list[FeatureSkew]
    """In the order of the service."""
    checked: int = 0
    """Requests of which every feature was compared that can be."""
    behind: int = 0
    """Requests served while some view was behind their event time; they are not compared."""
    unreadable: int = 0
    """Requests that the archive lacks, or that were served with another list of features."""
    checked_until_ms: int | None = None
    """Event time of the newest request that was compared."""
    differences: list[Difference] = []

    @property
    def different(self) -> int:
        """How many values were served otherwise than the definition says."""
        return sum(item.different for item in self.features)

    def compare(
        self,
        prediction_id: str,
        event_time_ms: int,
        served: Sequence[FeatureValue],
        recomputed: Sequence[FeatureValue | msgspec.UnsetType],
    ) -> None:
        """Take in one request, values in the order of the features; unset is what cannot be recomputed."""
        for item, was, should_be in zip(self.features, served, recomputed, strict=True):
            if should_be is msgspec.UNSET:
                continue
            result = judged(was, should_be)
            item.count(result)
            if result is Result.EQUAL:
                continue
            if result is Result.MISMATCHED:
                item.measure(was, should_be)
            difference = Difference(
                prediction_id=prediction_id,
                event_time_ms=event_time_ms,
                view=item.view,
                feature=item.feature,
                result=result,
                served=was,
                recomputed=should_be,
            )
            self.differences = [*self.differences, difference][-EXAMPLES_MAX:]
        self.checked += 1
        self.checked_until_ms = max(event_time_ms, self.checked_until_ms or event_time_ms)


def sample_bound(share: float) -> str:
    """Return the text below which the MD5 of a sampled id is, both as hexadecimal digits.

    So the same requests are in the sample in every process, version and language, and in SQL.

    >>> sample_bound(0.25)
    '40000000'
    """
    return "g" if share >= 1 else f"{round(share * _BUCKETS):08x}"


def judged(was: FeatureValue, should_be: FeatureValue) -> Result:
    """Compare a served value with the recomputed one."""
    if was is None or should_be is None:
        if was is should_be:
            return Result.EQUAL
        return Result.MISSING if was is None else Result.EXTRA
    if isinstance(was, float) and isinstance(should_be, float):
        same = was == should_be and math.copysign(1.0, was) == math.copysign(1.0, should_be)
        return Result.EQUAL if same else Result.MISMATCHED
    return Result.EQUAL if was == should_be else Result.MISMATCHED


def lines(report: SkewReport) -> list[str]:
    """Say it to a person."""
    width = max((len(item.feature) for item in report.features), default=0)
    summary = (
        f"{report.model}: {report.checked} requests compared, {report.different} values differ; "
        f"{report.behind} were served while behind, {report.unreadable} are unreadable"
    )
    return [
        summary,
        *(f"  {item.feature:<{width}}  {_totals(item)}" for item in report.features),
        *(f"  {_told(difference)}" for difference in report.differences),
    ]


def _totals(item: FeatureSkew) -> str:
    if not item.compared:
        return "nothing compared"
    return (
        f"{item.equal} equal, {item.mismatched} mismatched, {item.missing} missing, {item.extra} extra; "
        f"distance at most {item.distance_max:.6g}, SMAPE {item.smape:.6g}"
    )


def _told(difference: Difference) -> str:
    return (
        f"{difference.prediction_id} at {difference.event_time_ms}: "
        f"{difference.feature} {difference.result}: served {difference.served!r}, "
        f"recomputed {difference.recomputed!r}"
    )
