"""The metrics of several workers, of which only the arms that score now are shown. Pure.

A process alone removes the series of an arm that has ended. A worker cannot: its samples are in a file that
all workers share, until they are started again.
"""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

_INFO_NAME = "driftline_model_info"
_NAMES_BY_ARM = ("driftline_model_call_seconds", "driftline_arm_rows")


class CurrentArms(Collector):
    """Leaves out the series of arms that have ended."""

    def __init__(self, workers: CollectorRegistry) -> None:
        """Take the metrics of all workers."""
        self._workers = workers

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        families = list(self._workers.collect())
        infos = (each for family in families for each in family.samples if each.name == _INFO_NAME)
        current = {_arm_of(info) for info in infos if info.value}
        for family in families:
            if family.name in _NAMES_BY_ARM:
                family.samples = [each for each in family.samples if _arm_of(each) in current]
            yield family


def _arm_of(sample: Sample) -> tuple[str, ...]:
    return tuple(sample.labels[name] for name in ("model", "arm", "version"))
