"""What Prometheus reads of a process: the metrics of all its workers, without models that have left."""

import contextlib

from prometheus_client import CollectorRegistry, Gauge, generate_latest, multiprocess

from services.runtime import metrics
from services.runtime.current_arms import CurrentArms


def exposition() -> bytes:
    """Return all metrics in Prometheus' text format, of all workers if several share a port."""
    if not metrics.IS_WORKER:
        return generate_latest()
    workers, registry = CollectorRegistry(), CollectorRegistry()
    multiprocess.MultiProcessCollector(workers)
    registry.register(CurrentArms(workers))
    return generate_latest(registry)


def forget_model(model: str) -> None:
    """Remove the gauges of a model that this process does not run any more; counters stay, for their sums."""
    for metric in vars(metrics).values():
        if isinstance(metric, Gauge):
            with contextlib.suppress(ValueError):  # it has no label "model"
                metric.remove_by_labels({"model": model})
