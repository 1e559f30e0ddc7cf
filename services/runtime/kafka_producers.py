"""The blocking Kafka producer, for those who write a few records; whole batches: `streams.producer`."""

import contextlib
from collections.abc import Iterator, Sequence

from kafka import KafkaProducer
from kafka.errors import KafkaError

from services.runtime.settings import Settings

ACKNOWLEDGED_SECONDS_MAX = 30
REQUEST_BYTES_MAX = 64 << 20
"""Above the limit of every topic that is written: the broker's answer decides."""
CLOSE_SECONDS_MAX = 2
"""All records are acknowledged by then: the producer only disconnects."""


class RecordProducer:
    """Writes single records, acknowledged by all in-sync replicas; retries neither repeat nor reorder.

    After a failed record the client of kafka-python fails every later one with the same error. Therefore the
    next record has a new client.
    """

    def __init__(self, settings: Settings) -> None:
        """Connect."""
        self._settings = settings
        self._client: KafkaProducer | None = self._connect()

    def send(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]] = ()
    ) -> int:
        """Write one record and return its offset once it is acknowledged; `KafkaError` if it is not."""
        self._client = self._client or self._connect()
        try:
            future = self._client.send(topic, key=key, value=value, headers=list(headers))
            return int(future.get(timeout=ACKNOWLEDGED_SECONDS_MAX).offset)
        except KafkaError:
            client, self._client = self._client, None
            client.close(timeout=0)  # what is not sent yet will not be
            raise

    def close(self) -> None:
        """Disconnect."""
        if self._client is not None:
            self._client.close(timeout=CLOSE_SECONDS_MAX)

    def _connect(self) -> KafkaProducer:
        return KafkaProducer(
            **self._settings.kafka_options(),
            acks="all",
            enable_idempotence=True,
            max_request_size=REQUEST_BYTES_MAX,
        )


@contextlib.contextmanager
def connected(settings: Settings) -> Iterator[RecordProducer]:
    """Be connected until the block ends."""
    with contextlib.closing(RecordProducer(settings)) as producer:
        yield producer
