"""What a window's report comes to, in one sentence, and what to do about it. Pure."""

import dataclasses
import math
from typing import Literal

from services.monitoring import alarm_advice
from services.monitoring.reports.history import WindowReport
from streams.records import DriftReport, FeatureDrift

Level = Literal["harm", "changed", "calm", "unknown"]
NAMED_MAX = 3
WILSON_Z = 1.96
"""Of a 95 % interval."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The first thing to read."""

    level: Level
    headline: str
    why: str
    to_do: tuple[str, ...]


def of(window: WindowReport) -> Verdict:
    """Judge a window: harm before change before calm."""
    report, standing = window.report, window.standing
    drifted = [feature.feature for feature in report.features if feature.drifted]
    kinds = list(dict.fromkeys(alarm.kind for alarm in standing))
    to_do = tuple(alarm_advice.to_do(kind) for kind in kinds)
    if "loss" in kinds:
        harm = next(alarm for alarm in standing if alarm.kind == "loss")
        return Verdict("harm", "The model does harm", _sentence(harm.message), to_do)
    if not report.version or not report.features:
        return Verdict(
            "unknown",
            "There is nothing to compare with",
            _unknown(report),
            ("Wait for the first model, or for predictions.",),
        )
    if standing:
        others = f", and {len(standing) - NAMED_MAX} more" if len(standing) > NAMED_MAX else ""
        names = ", ".join(dict.fromkeys(alarm.subject for alarm in standing[:NAMED_MAX]))
        why = f"Alarms stand on {names}{others}. {_loss_sentence(report)}"
        return Verdict("changed", "Something changed; no harm so far", why, to_do)
    if drifted:
        names = ", ".join(drifted[:NAMED_MAX])
        why = f"In this window alone {names} differ from training; no alarm stands. {_loss_sentence(report)}"
        return Verdict("calm", "A window apart, and no alarm", why, ("Nothing, unless it lasts.",))
    why = f"No alarm stands. {_loss_sentence(report)}"
    return Verdict("calm", "All is as in training", why, ("Nothing.",))


def ranked(report: DriftReport) -> list[FeatureDrift]:
    """Return the features, those that drifted first, then by how far they are past their threshold."""
    return sorted(
        report.features,
        key=lambda each: (not each.drifted, -each.psi / max(each.threshold, 1e-9), each.feature),
    )


def accuracy_interval(report: DriftReport) -> tuple[float, float] | None:
    """Return Wilson's 95 % interval of the accuracy (Wilson 1927); None without labels."""
    if report.accuracy is None or not report.labels:
        return None
    n, share, z2 = report.labels, report.accuracy, WILSON_Z**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = WILSON_Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def _loss_sentence(report: DriftReport) -> str:
    if report.log_loss is None or report.reference_log_loss is None:
        return "No labels tell yet whether it hurts."
    difference = report.log_loss - report.reference_log_loss
    word = "above" if difference > 0 else "below"
    return (
        f"The log loss of {report.log_loss:.3f} is {abs(difference):.3f} {word} what training promised, over "
        f"{report.labels:,} labels."
    )


def _unknown(report: DriftReport) -> str:
    if not report.predictions:
        return "No predictions fell into this window."
    if not report.version:
        return f"{report.predictions:,} requests were collected; no model answered them."
    return f"Version {report.version} has no reference."


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
