"""What each arm did in one window, as the page shows it. Pure."""

import math

import msgspec

from services.monitoring import arm_comparison
from services.monitoring.arm_comparison import ArmComparison
from streams.records import DriftReport

ARMS_MAX = 16
"""Maximum arms and versions of a window, the champion's first: a table that a person reads."""


class ArmWindow(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """One version in one arm; the page's JSON leaves out fields that have their default value."""

    arm: str
    version: int
    shadow: bool = False
    champion: bool = False
    predictions: int = 0
    failed: int = 0
    failed_share: float | None = None
    failed_low: float | None = None
    """Lower bound, with 95 % confidence, of the share minus the champion's."""
    labels: int = 0
    loss: float | None = None
    difference: float | None = None
    """Mean loss minus the champion's; the next five fields are about this difference."""
    paired: bool = False
    low: float | None = None
    high: float | None = None
    running_low: float | None = None
    running_high: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    call_ratio: float | None = None
    """How many times as long as the champion's the calls take."""
    call_ratio_low: float | None = None


def arm_windows(report: DriftReport) -> list[ArmWindow]:
    """Return the arms of a window: those of the champion first, then challengers, then shadows."""
    return [_arm_window(each) for each in arm_comparison.side_by_side(report)[:ARMS_MAX]]


def _arm_window(found: ArmComparison) -> ArmWindow:
    difference, times = found.difference, found.call_times
    return ArmWindow(
        arm=found.arm,
        version=found.version,
        shadow=found.shadow,
        champion=found.is_champion,
        predictions=found.predictions,
        failed=found.failed,
        failed_share=page_number(found.failed_share) if found.failed else None,
        failed_low=page_number(found.failures.low) if found.failures else None,
        labels=found.labels,
        loss=page_number(found.loss),
        difference=page_number(difference.mean) if difference else None,
        paired=difference is not None and difference.is_paired,
        low=page_number(difference.low) if difference else None,
        high=page_number(difference.high) if difference else None,
        running_low=page_number(difference.running_low) if difference else None,
        running_high=page_number(difference.running_high) if difference else None,
        p50_ms=times.p50_ms if times else None,
        p99_ms=times.p99_ms if times else None,
        call_ratio=page_number(found.call_ratio.ratio) if found.call_ratio else None,
        call_ratio_low=page_number(found.call_ratio.low) if found.call_ratio else None,
    )


def page_number(value: float | None) -> float | None:
    """Round to six digits, so that the page can round again correctly; None if it is not a finite number."""
    return round(value, 6) if value is not None and math.isfinite(value) else None
