"""What a slice of requests becomes."""

import asyncio
import json
from collections import Counter
from types import SimpleNamespace
from typing import Any

from services.runtime import metrics
from services.scoring.kafka_agent import ScoringAgent
from services.scoring.tracing import Tracing
from streams.batches import Slice
from tests.unit.scoring.fakes import HalfOfX, scorer

WRITTEN_MS = 1_372_694_700_000


class Producer:
    """Keeps what it is to send."""

    def __init__(self):
        self.letters, self.sent = [], []

    async def send_dead_letters(self, letters):
        self.letters += letters

    async def send(self, topic, partition, batch):
        self.sent += batch


class Follower:
    """Has nothing to catch up with."""

    async def catch_up(self, model):
        pass


def request(offset, at, x=1.0):
    value = json.dumps({"id": f"r{offset}", "at": at, "x": x, "who": "a"}).encode()
    place = {"topic": "requests", "partition": 0, "offset": offset, "timestamp": WRITTEN_MS}
    return SimpleNamespace(**place, key=b"k", value=value, headers=())


def agent_with(producer: Any, **options: Any) -> ScoringAgent:
    follower: Any = Follower()
    return ScoringAgent(
        scorer(**options),
        follower,
        producer,
        record_bytes_max=1000,
        cloud_events=False,
        tracing=Tracing("", "scoring"),
    )


def test_a_request_of_the_future_is_a_dead_letter_and_its_neighbours_are_answered():
    producer: Any = Producer()
    agent = agent_with(producer)
    ats = ("2013-07-01T16:05:00Z", "3000-01-01T00:00:00Z", "2013-07-01T16:05:01Z")
    asked = [request(offset, at) for offset, at in enumerate(ats)]
    asyncio.run(agent.write_predictions(Slice("requests", 0, asked, caught_up=True)))
    assert [letter.offset for letter in producer.letters] == [1]
    assert "more than a day after" in producer.letters[0].reason
    assert [json.loads(value)["source_offset"] for _, value, _ in producer.sent] == [0, 2]


def test_slices_of_several_partitions_are_answered_together_and_written_each_by_itself():
    producer: Any = Producer()
    agent = agent_with(producer)
    before = stage_counts()
    ats = ("2013-07-01T16:05:00Z", "2013-07-01T16:05:01Z")
    slices = [
        Slice("requests", number, [request(10 * number + n, at) for n, at in enumerate(ats)], caught_up=True)
        for number in range(3)
    ]

    async def together():
        await asyncio.gather(*map(agent.write_predictions, slices))

    asyncio.run(together())
    assert stage_counts() - before == Counter(decode=3, features=1, predict=1, write=3)
    places = [
        (json.loads(value)["source_partition"], json.loads(value)["source_offset"])
        for _, value, _ in producer.sent
    ]
    assert places == [(0, 0), (0, 1), (1, 10), (1, 11), (2, 20), (2, 21)]


def test_row_at_fault_is_the_dead_letter_of_its_own_slice():
    producer: Any = Producer()
    agent = agent_with(producer, models={1: HalfOfX(poison=7.0)})
    at = "2013-07-01T16:05:00Z"
    slices = [
        Slice("requests", 0, [request(0, at), request(1, at)], caught_up=True),
        Slice("requests", 1, [request(5, at), request(6, at, x=7.0)], caught_up=True),
    ]

    async def together():
        await asyncio.gather(*map(agent.write_predictions, slices))

    asyncio.run(together())
    assert [letter.offset for letter in producer.letters] == [6]
    assert [json.loads(value)["source_offset"] for _, value, _ in producer.sent] == [0, 1, 5]


def test_each_stage_of_a_slice_is_timed_once():
    producer: Any = Producer()
    agent = agent_with(producer)
    before = stage_counts()
    asked = [request(offset, "2013-07-01T16:05:00Z") for offset in range(2)]
    asyncio.run(agent.write_predictions(Slice("requests", 0, asked, caught_up=True)))
    assert stage_counts() - before == Counter(["decode", "features", "predict", "write"])


def stage_counts() -> Counter[str]:
    samples = next(iter(metrics.SCORING_STAGE_DURATION.collect())).samples
    found = ((each.labels["stage"], int(each.value)) for each in samples if each.name.endswith("_count"))
    return Counter(dict(found))
