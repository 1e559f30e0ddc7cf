"""What scoring's metrics say of latency and availability, since that process has started. Pure."""

from typing import TYPE_CHECKING

from services.monitoring.error_budget import EventCount
from services.runtime.declaration import ModelDeclaration

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.samples import Sample

DURATION = "driftline_prediction_duration_seconds"
PREDICTIONS, UNANSWERED = "driftline_predictions_total", "driftline_requests_unanswered_total"


def count(text: str, declaration: ModelDeclaration, name: str) -> EventCount:
    """Count good and bad of ``latency`` or ``availability`` in a text of metrics."""
    from prometheus_client.parser import text_string_to_metric_families

    samples = [
        sample
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("model") == declaration.name
    ]
    latency = declaration.slo.latency
    if name == "latency" and latency is not None:
        mine = [each for each in samples if each.labels.get("channel") == latency.channel]
        bound = latency.within_ms / 1000
        good = _sum(
            each for each in mine if each.name == f"{DURATION}_bucket" and float(each.labels["le"]) == bound
        )
        return EventCount(good, _sum(each for each in mine if each.name == f"{DURATION}_count") - good)
    return EventCount(
        _sum(each for each in samples if each.name == PREDICTIONS),
        _sum(each for each in samples if each.name == UNANSWERED),
    )


def _sum(samples: "Iterable[Sample]") -> int:
    return round(sum(each.value for each in samples))
