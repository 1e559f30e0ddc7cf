"""The metrics of what the batch engine does for a consumer group."""

from services.runtime import metrics
from streams.slices import SliceObserver


def slice_observer(service: str, group: str) -> SliceObserver:
    """Return callbacks that count what the batch engine does for a consumer group."""
    lag, held = metrics.CONSUMER_LAG, metrics.PARTITIONS_HELD
    return SliceObserver(
        on_slice=metrics.SLICE_RECORDS.labels(service).observe,
        on_retry=metrics.SLICE_RETRIES.labels(service).inc,
        on_in_flight=metrics.IN_FLIGHT_BYTES.labels(group).set,
        on_lag=lambda topic, partition, records: lag.labels(group, topic, str(partition)).set(records),
        on_held=lambda topic, partition, is_held: held.labels(service, topic, str(partition)).set(is_held),
    )
