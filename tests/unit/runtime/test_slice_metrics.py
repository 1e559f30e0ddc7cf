"""The metrics of the batch engine."""

from prometheus_client import REGISTRY

from services.runtime.slice_metrics import slice_observer


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


def test_each_callback_has_its_metric() -> None:
    observer = slice_observer("tested", "driftline.tested")
    observer.on_slice(7)
    observer.on_retry()
    observer.on_in_flight(4096)
    observer.on_lag("rides", 3, 12)
    observer.on_held("rides", 3, True)
    assert value("driftline_slice_records_sum", service="tested") == 7
    assert value("driftline_slice_retries_total", service="tested") == 1
    assert value("driftline_in_flight_bytes", group="driftline.tested") == 4096
    assert (
        value("driftline_consumer_lag_records", group="driftline.tested", topic="rides", partition="3") == 12
    )
    held = value("driftline_partition_held", service="tested", topic="rides", partition="3")
    observer.on_held("rides", 3, False)
    assert (held, value("driftline_partition_held", service="tested", topic="rides", partition="3")) == (1, 0)
