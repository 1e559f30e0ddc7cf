"""Tells an outage from a defect: is a server or the disk unavailable, or is a record or our code at fault?

An outage is waited for: nothing is committed, and the same records are handled again. A defect is isolated:
the record is found, becomes a dead letter, and the records around it continue (`streams.defects`).
"""

import aiokafka.errors
import kafka.errors
import redis.exceptions

from streams.aiokafka_internals import RecordRefusedError


class OutageError(RuntimeError):
    """A server or the disk is unavailable: wait and try again. The message says which, and what to check."""


_OUTAGES = (
    OutageError,
    OSError,  # the network, the disk, a time limit
    aiokafka.errors.KafkaError,
    kafka.errors.KafkaError,
    redis.exceptions.RedisError,
    redis.exceptions.RedisClusterException,  # no RedisError
)
_DEFECTS = (
    # The broker refuses the record itself.
    aiokafka.errors.MessageSizeTooLargeError,
    aiokafka.errors.RecordListTooLargeError,
    aiokafka.errors.InvalidTimestampError,
    RecordRefusedError,
    kafka.errors.InvalidTimestampError,
    kafka.errors.MessageSizeTooLargeError,
    kafka.errors.RecordListTooLargeError,
    kafka.errors.InvalidRecordError,
    # A value that cannot be sent.
    redis.exceptions.DataError,
)
"""Errors of these libraries that waiting does not resolve, although they are of a type above."""


def is_outage(error: BaseException) -> bool:
    """Return whether waiting can resolve the error; False for every type that is not known as an outage."""
    return isinstance(error, _OUTAGES) and not isinstance(error, _DEFECTS)
