"""Which errors are waited for, and which ones mean that a record is at fault."""

import aiokafka.errors
import kafka.errors
import pytest
import redis.exceptions
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import (
    INVALID_PARAMETER_VALUE,
    RESOURCE_DOES_NOT_EXIST,
    TEMPORARILY_UNAVAILABLE,
)

from streams.aiokafka_internals import RecordRefusedError
from streams.outages import OutageError, is_outage
from streams.producer import RecordTooLargeError


@pytest.mark.parametrize(
    "error",
    [
        OutageError("MLflow does not respond"),
        ConnectionRefusedError(),
        TimeoutError(),
        OSError(28, "no space left on device"),
        aiokafka.errors.KafkaConnectionError(),
        aiokafka.errors.NotLeaderForPartitionError(),
        kafka.errors.KafkaTimeoutError(),
        redis.exceptions.ConnectionError(),
        redis.exceptions.ClusterDownError(""),
        redis.exceptions.RedisClusterException(),
        redis.exceptions.OutOfMemoryError(),
        redis.exceptions.ResponseError("MISCONF Errors writing to the AOF file"),
        RestException({"error_code": "INTERNAL_ERROR", "message": "a bug of the server"}),
        RestException({"error_code": "TEMPORARILY_UNAVAILABLE", "message": "the database is locked"}),
        RestException({"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "too many requests"}),
        RestException({"detail": "no route"}),
        MlflowException("(sqlite3.OperationalError) database is locked", TEMPORARILY_UNAVAILABLE),
    ],
)
def test_an_unavailable_server_or_disk_is_waited_for(error):
    assert is_outage(error)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("cannot convert NaN to an integer"),
        RecursionError(),
        KeyError("fare"),
        MemoryError(),
        aiokafka.errors.MessageSizeTooLargeError(),
        aiokafka.errors.InvalidTimestampError(),
        RecordRefusedError(),
        RecordTooLargeError("t", (None, b"v", []), 2, 1),
        kafka.errors.MessageSizeTooLargeError(),
        kafka.errors.InvalidTimestampError(),
        redis.exceptions.DataError(),
        redis.exceptions.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"),
        RestException({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such version"}),
        RestException({"error_code": "PERMISSION_DENIED", "message": "not yours"}),
        RestException({"error_code": "INVALID_PARAMETER_VALUE", "message": "version 'x'"}),
        MlflowException("no such version in sqlite:///registry.db", RESOURCE_DOES_NOT_EXIST),
        MlflowException("Failed to enforce schema of data", INVALID_PARAMETER_VALUE),
        MlflowException("an error of a model, with the code that is the default"),
    ],
)
def test_any_other_error_is_a_defect(error):
    assert not is_outage(error)
