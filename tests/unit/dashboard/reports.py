"""Reports of drift and of performance, as the process drift writes them."""

import math
from collections.abc import Sequence
from typing import Any, Literal

from streams.records import (
    DriftReport,
    FeatureDrift,
    Figure,
    PerformanceReport,
    SegmentPerformance,
)

DAY_MS = 86_400_000


def report(
    day: int = 1, features: Sequence[str] = ("temp",), model: str = "m", **changes: Any
) -> DriftReport:
    drifts = [
        FeatureDrift(
            feature=name,
            psi=0.1 * day,
            statistic=0.2,
            p_value=0.001,
            threshold=0.25,
            drifted=day > 2,
            missing_share=0.0,
        )
        for name in features
    ]
    fields: dict[str, Any] = {
        "report_id": f"{model}:{day}",
        "model": model,
        "version": 1,
        "window_start_ms": day * DAY_MS,
        "window_end_ms": (day + 1) * DAY_MS,
        "predictions": 900,
        "labels": 850,
        "features": drifts,
        "log_loss": 0.5,
        "shadow_log_loss": {"frozen": 0.52},
    }
    return DriftReport(**(fields | changes))


def performance(
    revision: int, realised: float, ripeness: Literal["provisional", "mature"]
) -> PerformanceReport:
    figures = [
        Figure(measure="absolute_error", realised=realised, estimated=12.5, running_low=math.nan),
        Figure(measure="cost", realised=3.0),
    ]
    return PerformanceReport(
        report_id="m-performance-1-0-10",
        model="m",
        version=1,
        window_start_ms=0,
        window_end_ms=10,
        as_of_ms=10 + revision,
        revision=revision,
        state=ripeness,
        predictions=9,
        labels=5,
        maturity=0.7,
        segments=[SegmentPerformance(segment="", predictions=9, labels=5, figures=figures)],
        unit="EUR",
    )
