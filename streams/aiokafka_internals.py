"""What Driftline uses of aiokafka beyond its documented interface, and nothing else.

A release may change what is here without notice. Therefore pyproject.toml pins one release of aiokafka,
and tests/contract/test_aiokafka_internals.py checks what is used.
"""

from aiokafka import AIOKafkaProducer


class _NeverFull(set[int]):
    """The brokers to which the sender has a request in flight: always empty."""

    def add(self, _node: int) -> None:
        pass

    def remove(self, _node: int) -> None:
        pass


def send_concurrently(producer: AIOKafkaProducer) -> None:
    """Let an unstarted producer send a broker the batches of several partitions at the same time.

    By default it sends a broker one request at a time, so that the batch of each partition waits for those of
    the others, and there is no option. The order within a partition is kept elsewhere: a partition with a
    batch in flight is muted.
    """
    producer._sender._in_flight = _NeverFull()  # noqa: SLF001  # see the module
