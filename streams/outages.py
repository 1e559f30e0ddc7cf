"""Tells an outage from a defect: is a server or the disk unavailable, or is a record or our code at fault?

An outage is waited for: nothing is committed, and the same records are handled again. A defect is isolated:
the record is found, becomes a dead letter, and the records around it continue (`streams.defects`).
"""

import functools

ErrorTypes = tuple[type[BaseException], ...]


class OutageError(RuntimeError):
    """A server or the disk is unavailable: wait and try again. The message says which, and what to check."""


@functools.cache
def _outages() -> ErrorTypes:
    # Late, as below: these libraries take a second to import, and every command imports this module.
    import aiokafka.errors
    import kafka.errors
    import redis.exceptions

    return (
        OutageError,
        OSError,  # the network, the disk, a time limit
        aiokafka.errors.KafkaError,
        kafka.errors.KafkaError,
        redis.exceptions.RedisError,
        redis.exceptions.RedisClusterException,  # no RedisError
    )


@functools.cache
def _defects() -> ErrorTypes:
    """Return errors of these libraries that waiting does not resolve, although they are of a type above."""
    import aiokafka.errors
    import kafka.errors
    import redis.exceptions

    from streams.aiokafka_internals import RecordRefusedError  # late: imports aiokafka

    return (
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


def is_outage(error: BaseException) -> bool:
    """Return whether waiting can resolve the error; False for every type that is not known as an outage."""
    return isinstance(error, _outages()) and not isinstance(error, _defects())
