"""What a slice of requests becomes: predictions in order, dead letters, heartbeats."""

import asyncio
import dataclasses
import json
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
from faust.types import TP

from services.runtime import metrics
from services.scoring.kafka_agent import ScoringAgent
from services.scoring.load_failures import VersionNotLoadedError
from services.scoring.tracing import Tracing
from streams import codec
from streams.batches import Lanes
from streams.outages import is_outage
from streams.records import Arm
from streams.slices import Slice, SliceObserver
from tests.unit.scoring.fakes import (
    CHAMPION,
    SHADOW,
    GatedModel,
    HalfOfX,
    Store,
    pipeline,
    proven,
    sample,
    settle,
)

WRITTEN_MS = AT_MS = 1_372_694_700_000
AT, LATER = "2013-07-01T16:05:00Z", "2013-07-01T16:05:01Z"


class PartitionProducer:
    """Keeps what is sent."""

    def __init__(self):
        self.letters, self.sent = [], []

    async def send_dead_letters(self, letters):
        self.letters += letters

    async def send(self, topic, partition, batch):
        self.sent += batch

    @property
    def predictions(self):
        return [json.loads(value) for _, value, _ in self.sent if value is not None]


class CaughtUpFollower:
    """Has applied every change of models; keeps who waited for it."""

    def __init__(self):
        self.waited_for = []

    async def catch_up(self, model):
        self.waited_for.append(model)


def request(offset, at, x=1.0, who="a"):
    value = json.dumps({"id": f"r{offset}", "at": at, "x": x, "who": who}).encode()
    source = {"topic": "requests", "partition": 0, "offset": offset, "timestamp": WRITTEN_MS}
    sizes = {"serialized_key_size": 1, "serialized_value_size": len(value)}
    return SimpleNamespace(**source, **sizes, key=b"k", value=value, headers=())


def heartbeat(offset, watermark_ms):
    headers = codec.heartbeat(watermark_ms)
    source = {"topic": "requests", "partition": 0, "offset": offset, "timestamp": WRITTEN_MS}
    return SimpleNamespace(**source, key=None, value=None, headers=headers)


def slice_of(partition, *requests):
    return Slice("requests", partition, list(requests), caught_up=True)


def agent_with(producer: Any, applied: Any = None, **options: Any) -> ScoringAgent:
    follower: Any = applied or CaughtUpFollower()
    return ScoringAgent(
        pipeline(**options),
        follower,
        producer,
        record_bytes_max=1000,
        cloud_events=False,
        tracing=Tracing("", "scoring"),
    )


def write(agent, *slices):
    async def run():
        await asyncio.gather(*map(agent.write_predictions, slices))

    asyncio.run(run())


def test_a_request_dated_in_the_future_is_a_dead_letter_and_its_neighbours_are_predicted():
    producer: Any = PartitionProducer()
    requests = [request(offset, at) for offset, at in enumerate((AT, "3000-01-01T00:00:00Z", LATER))]
    write(agent_with(producer), slice_of(0, *requests))
    assert [letter.offset for letter in producer.letters] == [1]
    assert "s ahead of the timestamp" in producer.letters[0].reason
    assert [each["source_offset"] for each in producer.predictions] == [0, 2]


def test_a_record_beyond_the_limit_is_a_dead_letter():
    producer: Any = PartitionProducer()
    large = request(0, AT)
    large.value += b" " * 1000
    write(agent_with(producer), slice_of(0, large, request(1, AT)))
    assert producer.letters[0].reason == f"the record has {len(large.value)} bytes, the limit is 1000"
    assert [each["source_offset"] for each in producer.predictions] == [1]


def test_slices_of_several_partitions_are_scored_together_and_each_is_written_by_itself():
    producer: Any = PartitionProducer()
    before = stage_counts()
    slices = [
        slice_of(number, *(request(10 * number + n, at) for n, at in enumerate((AT, LATER))))
        for number in range(3)
    ]
    write(agent_with(producer), *slices)
    assert stage_counts() - before == Counter(decode=3, features=1, predict=1, write=3)
    sources = [(each["source_partition"], each["source_offset"]) for each in producer.predictions]
    assert sources == [(0, 0), (0, 1), (1, 10), (1, 11), (2, 20), (2, 21)]


def test_a_row_at_fault_is_the_dead_letter_of_its_own_slice():
    producer: Any = PartitionProducer()
    agent = agent_with(producer, models={1: HalfOfX(poison=7.0)})
    write(
        agent,
        slice_of(0, request(0, AT), request(1, AT)),
        slice_of(1, request(5, AT), request(6, AT, x=7.0)),
    )
    assert [letter.offset for letter in producer.letters] == [6]
    assert [each["source_offset"] for each in producer.predictions] == [0, 1, 5]


class StrictStore(Store):
    """Cannot read the features of one entity."""

    async def read(self, entity_columns, event_times_ms, events):
        if "poison" in entity_columns["who"]:
            raise KeyError("no such entity")
        return await super().read(entity_columns, event_times_ms, events)


def test_a_request_at_fault_is_isolated_and_neighbours_of_all_partitions_are_predicted():
    """All partitions wait at the same time, so the requests of all are scored together."""
    producer: Any = PartitionProducer()
    agent = agent_with(producer, store=StrictStore())
    counted = sample("driftline_dead_letters_total", service="scoring", topic="requests", kind="defect")

    async def run():
        lanes = Lanes(1 << 20, 100, SliceObserver(), sleep=lambda _seconds: asyncio.sleep(0))
        slices = [slice_of(number, *(request(n, AT) for n in range(4))) for number in range(3)]
        slices[1].records[2] = request(2, AT, who="poison")
        for slice_ in slices:
            lanes.put(TP("requests", slice_.partition), slice_, agent.write_predictions, at_once=2)
        while not all(slice_.acked for slice_ in slices):  # noqa: ASYNC110  # a slice has no public event
            await asyncio.sleep(0)
        await lanes.close(drain_seconds=0)

    asyncio.run(run())
    (letter,) = producer.letters
    assert (letter.offset, letter.kind, letter.value) == (2, "defect", request(2, AT, who="poison").value)
    assert letter.reason.startswith("defect: KeyError: 'no such entity' at tests/unit/scoring/")
    answered = sorted((each["source_partition"], each["source_offset"]) for each in producer.predictions)
    assert answered == [(p, n) for p in range(3) for n in range(4) if (p, n) != (1, 2)]
    for number in range(3):
        offsets = [e["source_offset"] for e in producer.predictions if e["source_partition"] == number]
        assert offsets == sorted(offsets)
    after = sample("driftline_dead_letters_total", service="scoring", topic="requests", kind="defect")
    assert after - counted == 1


def test_an_isolated_heartbeat_is_a_dead_letter():
    producer: Any = PartitionProducer()
    write(agent_with(producer), slice_of(0, heartbeat(0, 5)).as_defect("defect: ValueError"))
    assert [(letter.offset, letter.kind) for letter in producer.letters] == [(0, "defect")]
    assert producer.sent == []


def test_a_request_on_which_the_model_fails_alone_is_a_dead_letter():
    producer: Any = PartitionProducer()
    slice_ = slice_of(0, request(0, AT, x=7.0))
    write(agent_with(producer, models={1: proven(HalfOfX(poison=7.0))}), slice_)
    assert [(letter.offset, letter.reason) for letter in producer.letters] == [
        (0, "the model failed: ValueError('poison')")
    ]
    assert slice_.acked


def test_a_slice_whose_version_cannot_answer_waits_and_the_others_of_its_batch_are_written():
    """The champion of LATER does not load; AT belongs to the one before it."""
    producer: Any = PartitionProducer()
    later = Arm(name="champion", version=2, weight=10_000, effective_from_ms=WRITTEN_MS + 1000)
    agent = agent_with(producer, models={1: HalfOfX()}, arms=[CHAMPION, later])
    slices = slice_of(0, request(0, AT)), slice_of(1, request(10, LATER))

    async def run():
        return await asyncio.gather(*map(agent.write_predictions, slices), return_exceptions=True)

    written, waiting = asyncio.run(run())
    assert written is None
    assert isinstance(waiting, VersionNotLoadedError)
    assert is_outage(waiting)
    assert [slice_.acked for slice_ in slices] == [True, False]
    assert [each["source_offset"] for each in producer.predictions] == [0]


def test_each_stage_of_a_slice_is_timed_once():
    producer: Any = PartitionProducer()
    before = stage_counts()
    write(agent_with(producer), slice_of(0, request(0, AT), request(1, AT)))
    assert stage_counts() - before == Counter(["decode", "features", "predict", "write"])


def test_the_last_heartbeat_of_a_slice_follows_its_predictions():
    producer: Any = PartitionProducer()
    write(agent_with(producer), slice_of(0, heartbeat(0, 5), request(1, AT), heartbeat(2, 9)))
    (prediction, last) = producer.sent
    assert json.loads(prediction[1])["source_offset"] == 1
    assert last == (None, None, codec.heartbeat(9))


def test_a_replay_waits_for_model_changes_and_for_its_shadows():
    """The declared wait for shadows is 0, so their scores are there only because the replay waits."""

    async def run():
        producer: Any = PartitionProducer()
        follower, shadow = CaughtUpFollower(), GatedModel(offset=0.1)
        models, arms = {1: HalfOfX(), 2: shadow}, [CHAMPION, SHADOW]
        agent = agent_with(producer, follower, models=models, arms=arms, limits={"shadow_wait_ms": 0})
        writing = asyncio.create_task(agent.write_predictions(slice_of(0, request(0, AT))))
        await shadow.next_call()
        await settle()
        assert producer.sent == []
        shadow.release()
        await writing
        return follower.waited_for, producer.predictions[0]["shadow_scores"]

    assert asyncio.run(run()) == (["m"], {"frozen": 0.6})


def test_a_replay_waits_again_when_a_view_is_built_again_after_the_wait():
    """The values of the first read are incomplete: the view has lost its watermark."""

    class RebuiltStore(Store):
        waits = reads = 0

        async def wait_for(self, event_time_ms, timeout_seconds):
            self.waits += 1
            return True

        async def read(self, entity_columns, event_times_ms, events):
            self.reads += 1
            served = await super().read(entity_columns, event_times_ms, events)
            if self.reads > 1:
                return served
            return dataclasses.replace(served, lag_ms=served.lag_ms - 1, columns={"f": np.array([np.nan])})

    producer: Any = PartitionProducer()
    store = RebuiltStore()
    write(agent_with(producer, store=store), slice_of(0, request(0, AT)))
    assert (store.waits, len(producer.predictions)) == (2, 1)
    assert producer.predictions[0]["features"][-1] == 1.0


class PausedStore(Store):
    """The traffic of its features pauses before the second of two requests: nothing passes it."""

    async def wait_for(self, event_time_ms, timeout_seconds):
        await asyncio.sleep(0)
        return event_time_ms <= AT_MS

    async def read(self, entity_columns, event_times_ms, events):
        served = await super().read(entity_columns, event_times_ms, events)
        return dataclasses.replace(served, lag_ms=np.maximum(event_times_ms - AT_MS, 0))


def paused(after_wait):
    features = {"service": "s", "from_request": ["x", "who"], "wait_seconds": 0.01, "after_wait": after_wait}
    producer: Any = PartitionProducer()
    agent = agent_with(producer, store=PausedStore(), features=features)
    before = sample("driftline_features_late_total", model="m", result=after_wait)
    write(agent, slice_of(0, request(0, AT), request(1, LATER)))
    assert sample("driftline_features_late_total", model="m", result=after_wait) == before + 1
    assert agent.wait.waiting == 0
    return producer


def test_after_the_wait_a_request_is_answered_with_the_features_that_are_there():
    producer = paused("answer")
    assert producer.letters == []
    assert [each["features_lag_ms"] for each in producer.predictions] == [0, 1000]


def test_after_the_wait_a_request_is_a_dead_letter_if_that_is_declared():
    """Its neighbour, which the features have passed, is answered."""
    producer = paused("dead_letter")
    assert [each["source_offset"] for each in producer.predictions] == [0]
    (letter,) = producer.letters
    assert letter.offset == 1
    assert "did not reach the request's event time within 0.01 s" in letter.reason


def test_requests_that_wait_for_long_are_shown_while_they_wait():
    class SlowStore(Store):
        """Passes the request when it is told to."""

        def __init__(self):
            self.passes, self.is_waited_for = asyncio.Event(), asyncio.Event()
            self.waits = 0

        async def wait_for(self, event_time_ms, timeout_seconds):
            self.waits += 1
            if self.waits == 1:  # the first second
                return False
            self.is_waited_for.set()
            await self.passes.wait()
            return True

    async def run():
        store, producer = SlowStore(), PartitionProducer()
        agent = agent_with(producer, store=store)
        writing = asyncio.create_task(agent.write_predictions(slice_of(0, request(0, AT), request(1, AT))))
        await store.is_waited_for.wait()
        shown = agent.wait.waiting, sample("driftline_requests_waiting", model="m")
        store.passes.set()
        await writing
        return shown, agent.wait.waiting, len(producer.predictions)

    assert asyncio.run(run()) == ((2, 2), 0, 2)


def stage_counts() -> Counter[str]:
    samples = next(iter(metrics.SCORING_STAGE_DURATION.collect())).samples
    found = ((each.labels["stage"], int(each.value)) for each in samples if each.name.endswith("_count"))
    return Counter(dict(found))
