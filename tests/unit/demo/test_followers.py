"""The readers of the demo, with a consumer in memory."""

import asyncio
import types
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiokafka import TopicPartition

from services.demo import followers
from services.demo.account import RequestAccount
from services.demo.followers import AccountFollower, CatchUpError, RetrainingFollower
from services.demo.retrainings import RetrainingLog
from services.runtime.settings import Settings
from streams import records, topics
from streams.records import RetrainingRequested

REQUESTED = RetrainingRequested(
    request_id="r1", model="delay", trigger="drift", requested_at_ms=5, reason="drift in x"
)


ALARM = records.DriftAlarm(
    alarm_id="a1", model="minutes", version=1, kind="feature", subject="x", detector="ranks",
    detected_at_ms=5, since_ms=1, value=2.0, threshold=1.0, message="x changed",
)  # fmt: skip


class MemoryConsumer:
    """Reads the logs of a test, each partition once."""

    def __init__(self, logs: dict[TopicPartition, list[bytes | None]]) -> None:
        self.logs = logs
        self.read: dict[TopicPartition, int] = {}
        self.assigned: list[TopicPartition] = []
        self.is_stopped = False

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        self.is_stopped = True

    def assign(self, partitions: list[TopicPartition]) -> None:
        self.assigned = partitions

    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {each: len(self.logs.get(each, [])) for each in partitions}

    async def getmany(self, **limits: int) -> dict[TopicPartition, list[Any]]:
        await asyncio.sleep(0)
        found = {}
        for each in self.assigned:
            start = self.read.get(each, 0)
            values = self.logs.get(each, [])[start:]
            self.read[each] = start + len(values)
            if values:
                found[each] = [
                    types.SimpleNamespace(value=value, offset=offset)
                    for offset, value in enumerate(values, start)
                ]
        return found


class MemoryMinutes:
    model = "minutes"

    def __init__(self) -> None:
        self.values: list[bytes] = []
        self.drift: list[Any] = []

    def add_predictions(self, values: list[bytes]) -> None:
        self.values += values

    def add_drift(self, record: Any) -> None:
        self.drift.append(record)


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> dict[TopicPartition, list[bytes | None]]:
    found: dict[TopicPartition, list[bytes | None]] = {}
    monkeypatch.setattr(followers, "AIOKafkaConsumer", lambda **options: MemoryConsumer(found))
    return found


def follow(account: RequestAccount, minutes: Any, use: Callable[[AccountFollower], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        follower = AccountFollower(Settings(), account, minutes, 2)
        await follower.start()
        following = asyncio.create_task(follower.follow())
        try:
            return await use(follower)
        finally:
            following.cancel()
            await follower.stop()

    return asyncio.run(run())


def change(model: str) -> bytes:
    return records.encode(records.ModelChanged(model=model, arms=[], changed_at_ms=1, reason=""))


def test_each_topic_feeds_its_account_and_foreign_records_are_skipped(
    logs: dict[TopicPartition, list[bytes | None]],
) -> None:
    logs[TopicPartition(topics.MODELS.name, 0)] = [change("delay"), b"not ours", None, change("other")]
    logs[TopicPartition(topics.predictions("minutes"), 1)] = [b"p", None, b"q"]
    account, minutes = RequestAccount("delay", "requests", None), MemoryMinutes()
    follow(account, minutes, AccountFollower.catch_up)
    assert account.change is not None
    assert account.change.model == "delay"
    assert minutes.values == [b"p", b"q"]


def test_a_companion_may_read_the_same_predictions_as_the_account(
    logs: dict[TopicPartition, list[bytes | None]],
) -> None:
    answer = records.Prediction(
        prediction_id="1", model="minutes", version=0, arm="champion", arm_weight=1,
        event_time_ms=5, scored_time_ms=0, source_partition=0, source_offset=0,
        features=[], features_lag_ms=0, score=None, prediction=None,
    )  # fmt: skip
    alarm = records.encode(ALARM)
    logs[TopicPartition(topics.predictions("minutes"), 0)] = [records.encode(answer)]
    logs[TopicPartition(topics.DRIFT.name, 0)] = [alarm]
    account, minutes = RequestAccount("minutes", "requests", None), MemoryMinutes()
    follow(account, minutes, AccountFollower.catch_up)
    assert account.collected == 1
    assert minutes.values == [records.encode(answer)]
    assert minutes.drift == [ALARM]


def test_an_end_that_is_not_reached_is_an_error_with_its_topic(
    logs: dict[TopicPartition, list[bytes | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(self: MemoryConsumer, **limits: int) -> dict[TopicPartition, list[Any]]:
        await asyncio.sleep(0)
        return {}

    logs[TopicPartition(topics.DRIFT.name, 0)] = [b"{}"]
    monkeypatch.setattr(MemoryConsumer, "getmany", never)
    monkeypatch.setattr(followers, "_CATCH_UP_SECONDS_MAX", 0.01)
    with pytest.raises(CatchUpError, match=f"the end of {topics.DRIFT.name}"):
        follow(RequestAccount("delay", "requests", None), MemoryMinutes(), AccountFollower.catch_up)


def test_the_next_offsets_are_the_ends_of_the_partitions(
    logs: dict[TopicPartition, list[bytes | None]],
) -> None:
    logs[TopicPartition("t", 1)] = [b"a", b"b"]
    account = RequestAccount("delay", "requests", None)
    found = follow(account, MemoryMinutes(), lambda follower: follower.next_offsets("t", 2))
    assert found == [0, 2]


def test_the_retraining_topic_is_read_to_its_end_on_request(
    logs: dict[TopicPartition, list[bytes | None]],
) -> None:
    log = RetrainingLog("delay")
    place = TopicPartition(topics.RETRAINING.name, 0)
    logs[place] = [b"not ours", None, records.encode(REQUESTED)]

    async def run() -> None:
        follower = RetrainingFollower(Settings(), log)
        await follower.start()
        await follower.drain()
        assert list(log.requested) == ["r1"]
        await follower.drain()  # nothing new: it returns at once
        await follower.stop()

    asyncio.run(run())


def test_what_was_never_started_can_be_stopped() -> None:
    asyncio.run(RetrainingFollower(Settings(), RetrainingLog("delay")).stop())
