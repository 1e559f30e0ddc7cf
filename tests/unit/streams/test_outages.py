"""Which errors are waited for, and which ones mean that a record is at fault."""

import aiokafka.errors
import kafka.errors
import pytest
import redis.exceptions

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
    ],
)
def test_any_other_error_is_a_defect(error):
    assert not is_outage(error)
