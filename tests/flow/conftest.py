"""Fixtures that several flows share."""

from collections.abc import Iterator
from typing import Any

import pytest
import redis


@pytest.fixture
def client(valkey: str) -> Iterator[Any]:
    """A client of an online store that is empty before and after the test."""
    with redis.Redis.from_url(valkey) as client:
        client.flushdb()
        yield client
        client.flushdb()
