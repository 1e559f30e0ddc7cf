"""The verdict on a window: its report in one sentence, and what to do about it. Pure."""

import dataclasses
from typing import Literal

from services.monitoring import alarm_advice, classification, window_loss
from services.monitoring.reports.history import WindowReport
from streams.records import DriftReport, FeatureDrift

Level = Literal["harm", "changed", "calm", "unknown"]
NAMED_MAX = 3
"""Maximum subjects named in a sentence."""
WITHOUT_REFERENCE = (
    "Register the version with driftline models register --reference; a model that learns online gets its "
    "reference from its first labels."
)
RARE_SHARE = 0.1
"""Below this share of positive labels, accuracy says little: a model that finds none has 90 % or more."""


@dataclasses.dataclass(frozen=True)
class RarePositives:
    """How a binary model finds a rare class, in the latest window whose labels are known."""

    share: float
    """Share of the labels that are 1."""
    precision: float | None
    recall: float | None
    window_start_ms: int


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a reader of the report sees first."""

    level: Level
    headline: str
    why: str
    to_do: tuple[str, ...]


def assess(window: WindowReport) -> Verdict:
    """Return the verdict on a window; a loss alarm outranks drift, and drift outranks a calm window."""
    report, active = window.report, window.standing
    kinds = list(dict.fromkeys(alarm.kind for alarm in active))
    to_do = tuple(alarm_advice.advice(kind) for kind in kinds)
    if "loss" in kinds:
        alarm = next(alarm for alarm in active if alarm.kind == "loss")
        return Verdict("harm", alarm_advice.headline("loss"), _sentence(alarm.message), to_do)
    if active:
        more = f", and {len(active) - NAMED_MAX} more" if len(active) > NAMED_MAX else ""
        names = ", ".join(dict.fromkeys(alarm.subject for alarm in active[:NAMED_MAX]))
        why = f"Alarms are active on {names}{more}. {_loss_sentence(report)}"
        return Verdict("changed", "Drift was detected; no loss alarm is active", why, to_do)
    if report.version and report.predictions and not report.features:
        return Verdict(
            "unknown",
            "No reference: features and scores are not watched",
            f"No reference: version {report.version} was published without one, so its features, scores, "
            f"segments and relations are not compared with anything. {_loss_sentence(report)}",
            (WITHOUT_REFERENCE,),
        )
    if not report.version or not report.features:
        return Verdict(
            "unknown",
            "No comparison is possible",
            _why_unknown(report),
            ("Wait for the first model, or for predictions.",),
        )
    if drifted := drifted_subjects(report):
        names = ", ".join(drifted[:NAMED_MAX])
        why = f"Only this window differs from training, in {names}. {_loss_sentence(report)}"
        to_do = ("No action is needed unless it persists.",)
        return Verdict("calm", "No alarm is active, but this window differs", why, to_do)
    why = f"No alarm is active. {_not_compared(report)}{_loss_sentence(report)}"
    return Verdict("calm", "No drift", why, ("No action is needed.",))


def drifted_subjects(report: DriftReport) -> list[str]:
    """Return what drifted in a window: features, the scores, and relations, by the verdicts of the report."""
    outputs = [each for each in (report.score, report.prediction) if each is not None]
    compared = [*report.features, *outputs]
    pairs = report.relations.pairs if report.relations else []
    return [
        *(each.feature for each in compared if each.drifted),
        *(f"{pair.first} and {pair.second}" for pair in pairs if pair.drifted),
    ]


def ranked(report: DriftReport) -> list[FeatureDrift]:
    """Return the features: those with drift first, then by the ratio of PSI to its threshold."""
    return sorted(
        report.features,
        key=lambda each: (not each.drifted, -each.psi / max(each.threshold, 1e-9), each.feature),
    )


def rare_positives(window: WindowReport) -> RarePositives | None:
    """Return what to show in place of accuracy; None unless few of the known labels are 1."""
    for report in reversed(window.performances):
        if report.state == "provisional" or not report.segments or not report.labels:
            continue
        whole = report.segments[0]
        share = sum(whole.positives) / report.labels
        if not whole.positives or share >= RARE_SHARE:
            return None
        found = {figure.measure: figure.realised for figure in whole.figures}
        return RarePositives(share, found.get("precision"), found.get("recall"), report.window_start_ms)
    return None


def accuracy_interval(report: DriftReport) -> tuple[float, float] | None:
    """Return the 95 % Wilson score interval of the accuracy; None without labels."""
    if report.accuracy is None or not report.labels:
        return None
    return classification.wilson_interval(report.accuracy * report.labels, report.labels)


def _not_compared(report: DriftReport) -> str:
    left = sum(not each.compared for each in report.features)
    if not left:
        return ""
    verb = "is" if left == 1 else "are"
    return (
        f"{left} of {len(report.features)} features {verb} not compared, because the reference has no values "
        "of this season. "
    )


def _loss_sentence(report: DriftReport) -> str:
    name = {"log_loss": "log loss", "absolute_error": "mean absolute error"}[window_loss.measure_of(report)]
    loss, reference = window_loss.loss_of(report), window_loss.reference_of(report)
    if loss is None:
        return "There are no labels yet, so the loss is unknown."
    if reference is None:
        return f"The {name} is {loss:.3f}, over {report.labels:,} labels."
    word = "above" if loss > reference else "below"
    return (
        f"The {name} is {loss:.3f}, {abs(loss - reference):.3f} {word} the training baseline, over "
        f"{report.labels:,} labels."
    )


def _why_unknown(report: DriftReport) -> str:
    if not report.predictions:
        return "This window has no predictions."
    return f"{report.predictions:,} requests were recorded without a prediction: no model was serving."


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
