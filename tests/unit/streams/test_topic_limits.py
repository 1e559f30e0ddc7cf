import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError

from streams import topic_limits
from streams.topic_limits import AGE_SECONDS_MAX, TopicLimits
from streams.topics import MESSAGE_BYTES_MAX


class Admin:
    """The broker's settings, and how often they were asked for."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str | None]] = [("retention.ms", "1"), (MESSAGE_BYTES_MAX, "2000")]
        self.asked: list[str] = []
        self.closed = 0
        self.is_away = False

    async def start(self) -> None:
        if self.is_away:
            raise KafkaConnectionError("away")

    async def close(self) -> None:
        self.closed += 1

    async def describe_configs(self, resources: Any) -> list[Any]:
        self.asked += [each.name for each in resources]
        return [SimpleNamespace(resources=[(0, None, 2, each.name, self.entries) for each in resources])]


@pytest.fixture
def admin(monkeypatch: pytest.MonkeyPatch) -> Admin:
    admin = Admin()
    monkeypatch.setattr(topic_limits, "AIOKafkaAdminClient", lambda **_: admin)
    return admin


def test_the_limit_is_asked_once_until_it_is_old(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    now_seconds = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now_seconds[0])

    async def run() -> None:
        limits = TopicLimits({})
        assert [await limits.bytes_max("t"), await limits.bytes_max("t")] == [2000, 2000]
        admin.entries = [(MESSAGE_BYTES_MAX, "3000")]
        now_seconds[0] += AGE_SECONDS_MAX + 1
        assert await limits.bytes_max("t") == 3000

    asyncio.run(run())
    assert admin.asked == ["t", "t"]
    assert admin.closed == 2


def test_a_limit_that_the_broker_does_not_state_is_unknown(admin: Admin) -> None:
    admin.entries = []
    assert asyncio.run(TopicLimits({}).bytes_max("t")) is None


def test_a_broker_that_is_away_is_no_answer(admin: Admin) -> None:
    async def run() -> None:
        limits = TopicLimits({})
        admin.is_away = True
        with pytest.raises(KafkaConnectionError):
            await limits.bytes_max("t")
        admin.is_away = False
        assert await limits.bytes_max("t") == 2000

    asyncio.run(run())
    assert admin.closed == 2
