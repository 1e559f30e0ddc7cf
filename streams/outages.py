"""Tells an outage from a defect: is a server or the disk unavailable, or is a record or our code at fault?

An outage is waited for: nothing is committed, and the same records are handled again. A defect is isolated:
the record is found, becomes a dead letter, and the records around it continue (`streams.defects`).
"""

import functools
import sys
from typing import Any

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


_REGISTRY_BUSY = {
    "TEMPORARILY_UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "REQUEST_LIMIT_EXCEEDED",
    "RESOURCE_EXHAUSTED",
}
"""Error codes of MLflow, with or without HTTP."""
_SERVER_ERROR = 500


def is_outage(error: BaseException) -> bool:
    """Return whether waiting can resolve the error; False for every type that is not known as an outage."""
    is_known = isinstance(error, _outages()) and not isinstance(error, _defects())
    return (is_known and not _is_foreign_key(error)) or _is_outage_of_registry(error)


def _is_foreign_key(error: BaseException) -> bool:
    """Return whether Redis holds a value of another kind, from another program, under the key of one entity.

    redis-py has no separate type for this error, and a script adds its name at the end.
    """
    import redis.exceptions  # late, as above

    return isinstance(error, redis.exceptions.ResponseError) and str(error).startswith("WRONGTYPE")


def _is_outage_of_registry(error: BaseException) -> bool:
    """Return whether an error of MLflow says that its server is away, and is not an answer of the server.

    MLflow has one type for both, and for errors of models. An error of HTTP without an answer of MLflow, such
    as a refused connection or the page of a gateway, begins with ``API request to``, whatever its code.
    """
    mlflow: Any = sys.modules.get("mlflow.exceptions")  # not imported here: that takes 3 s
    if mlflow is None or not isinstance(error, mlflow.MlflowException):
        return False
    if isinstance(error, mlflow.RestException):
        return error.get_http_status_code() >= _SERVER_ERROR or error.error_code in _REGISTRY_BUSY
    return error.error_code in _REGISTRY_BUSY or str(error).startswith("API request to ")
