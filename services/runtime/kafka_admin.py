"""Administration clients of Kafka: only this module makes them."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from kafka import KafkaAdminClient


@contextlib.contextmanager
def connected(options: Mapping[str, Any], *, timeout_ms: int | None = None) -> Iterator[KafkaAdminClient]:
    """Connect, and disconnect at the end of the block.

    Args:
        options: The connection, see `Settings.kafka_options`.
        timeout_ms: Maximum time of the connection, and of each request; default: kafka-python's own.

    Raises:
        KafkaError: The broker cannot be reached.
    """
    names = () if timeout_ms is None else ("bootstrap_timeout_ms", "request_timeout_ms")
    with contextlib.closing(KafkaAdminClient(**options, **dict.fromkeys(names, timeout_ms))) as admin:
        yield admin
