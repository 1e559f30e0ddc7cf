"""The blocking Kafka producer, for those who write a few records; whole batches: `streams.producer`."""

import contextlib
from collections.abc import Iterator, Sequence

from kafka import KafkaProducer

from services.runtime.settings import Settings

ACKNOWLEDGED_SECONDS_MAX = 30
REQUEST_BYTES_MAX = 64 << 20
"""Above the limit of every topic that is written: the broker's answer decides."""
CLOSE_SECONDS_MAX = 2
"""All records are acknowledged by then: the producer only disconnects."""


class RecordProducer:
    """Writes single records, acknowledged by all in-sync replicas; retries neither repeat nor reorder."""

    def __init__(self, settings: Settings) -> None:
        """Connect."""
        self._producer = KafkaProducer(
            **settings.kafka_options(),
            acks="all",
            enable_idempotence=True,
            max_request_size=REQUEST_BYTES_MAX,
        )

    def send(
        self, topic: str, key: bytes, value: bytes | None, headers: Sequence[tuple[str, bytes]] = ()
    ) -> int:
        """Write one record and return its offset once it is acknowledged; `KafkaError` if it is not."""
        future = self._producer.send(topic, key=key, value=value, headers=list(headers))
        return int(future.get(timeout=ACKNOWLEDGED_SECONDS_MAX).offset)

    def close(self) -> None:
        """Disconnect."""
        self._producer.close(timeout=CLOSE_SECONDS_MAX)


@contextlib.contextmanager
def connected(settings: Settings) -> Iterator[RecordProducer]:
    """Be connected until the block ends."""
    with contextlib.closing(RecordProducer(settings)) as producer:
        yield producer
