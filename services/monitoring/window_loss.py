"""The mean loss of a window's report, and of its champion's reference. Pure."""

from services.monitoring.loss_comparison import LossComparison
from streams.records import DriftReport


def measure_of(report: DriftReport) -> str:
    """Return what the loss of the model is: ``log_loss``, or ``absolute_error`` of a regression."""
    has_other_reference = report.reference_loss is not None and report.reference_log_loss is None
    return "absolute_error" if "absolute_error" in report.measures or has_other_reference else "log_loss"


def loss_of(report: DriftReport) -> float | None:
    """Return the mean loss over the labels of a window; None without labels."""
    return report.measures.get("absolute_error") if report.log_loss is None else report.log_loss


def reference_of(report: DriftReport) -> float | None:
    """Return the mean loss of the champion's reference; None without one, or if it has no labels."""
    return report.reference_log_loss if report.reference_loss is None else report.reference_loss


def compare(report: DriftReport, tolerance: float) -> LossComparison | None:
    """Compare the loss of a window with the reference, as the loss alarm does; None without one of them.

    Args:
        report: The window's report.
        tolerance: The declared ``loss_tolerance``; of a regression, a share of the reference's loss.
    """
    measure, loss, reference = measure_of(report), loss_of(report), reference_of(report)
    if loss is None or reference is None:
        return None
    allowed = tolerance * reference if measure == "absolute_error" else tolerance
    return LossComparison(measure, loss, reference, allowed, baseline_error=report.reference_loss_error)
