"""Answers over HTTP are logged behind the answer: never before it, never twice, and none silently lost."""

import asyncio

import msgspec
import pytest

from services.runtime import metrics
from services.scoring import prediction_log
from services.scoring.online_predictor import Endpoint, UnanswerableError
from streams import records
from tests.unit.scoring.fakes import CHAMPION, SHADOW, HalfOfX, Producer, Slow, endpoint, event, scorer

TOPIC = "driftline.predictions.m"


def unlogged():
    return metrics.PREDICTIONS_UNLOGGED.labels("m")._value.get()


def logged(producer):
    return [msgspec.json.decode(value, type=records.Prediction) for _, value, _ in producer.written[TOPIC]]


def asked(subject, *numbers):
    return [event(subject.scorer, number) for number in numbers]


def test_an_answer_becomes_a_prediction_that_nothing_asked_for_on_kafka():
    async def ask():
        producer = Producer()
        subject = endpoint(producer)
        async with subject.running():
            await subject.answer(asked(subject, 1, 2))
        return producer

    producer = asyncio.run(ask())
    found = logged(producer)
    assert [one.prediction_id for one in found] == ["r1", "r2"]
    assert [key for key, _, _ in producer.written[TOPIC]] == [b"r1", b"r2"]
    assert {(one.source_partition, one.source_offset) for one in found} == {(-1, -1)}
    assert found[0].features == [1.0, "abc", 3.0]
    assert (found[0].score, found[0].version, found[0].arm_weight) == (0.5, 1, 10_000)


def test_each_of_them_is_a_cloud_event_of_its_own_where_that_is_asked_for():
    async def ask():
        producer = Producer()
        subject = Endpoint(scorer(), producer, cloud_events=True)
        async with subject.running():
            await subject.answer(asked(subject, 1, 2))
            await subject.answer(asked(subject, 1))
        return producer

    headers = [dict(own) for _, _, own in asyncio.run(ask()).written[TOPIC]]
    assert {own["ce_type"] for own in headers} == {b"driftline.prediction"}
    assert len({own["ce_id"] for own in headers}) == 3


def test_an_answer_waits_for_neither_the_shadows_nor_the_log(monkeypatch):
    monkeypatch.setattr(prediction_log, "FLUSH_SECONDS_MAX", 20.0)

    async def ask():
        producer = Producer()
        producer.held = asyncio.Event()
        shadow = Slow(0.8, offset=0.1)
        arms = [CHAMPION, SHADOW]
        limits = {"shadow_wait_ms": 5000}
        subject = endpoint(producer, models={1: HalfOfX(), 2: shadow}, arms=arms, limits=limits)
        async with subject.running():
            await subject.answer(asked(subject, 0))  # loads the versions
            await asyncio.wait_for(subject.answer(asked(subject, 1)), 0.7)
            assert producer.written == {}
            producer.held.set()
        return producer

    found = logged(asyncio.run(ask()))
    assert [one.prediction_id for one in found] == ["r0", "r1"]
    assert found[0].shadow_scores == {"frozen": pytest.approx(0.6)}


def test_what_finds_the_queue_full_is_dropped_and_counted(monkeypatch):
    monkeypatch.setattr(prediction_log, "ROWS_MAX", 3)

    async def ask():
        producer = Producer()
        producer.held = asyncio.Event()
        subject = endpoint(producer)
        async with subject.running():
            for number in range(5):
                await subject.answer(asked(subject, number))
            await asyncio.sleep(0)
            producer.held.set()
        return producer

    before = unlogged()
    producer = asyncio.run(ask())
    assert [one.prediction_id for one in logged(producer)] == ["r0", "r1", "r2"]
    assert unlogged() - before == 2


def test_what_the_broker_does_not_take_is_counted_and_the_next_is_written():
    class Broken(Producer):
        broken = True

        async def send_by_key(self, topic, batch):
            if self.broken:
                self.broken = False
                raise OSError("no broker")
            await super().send_by_key(topic, batch)

    async def ask():
        producer = Broken()
        subject = endpoint(producer)
        async with subject.running():
            await subject.answer(asked(subject, 1))
            await asyncio.sleep(0.2)
            await subject.answer(asked(subject, 2))
        return producer

    before = unlogged()
    assert [one.prediction_id for one in logged(asyncio.run(ask()))] == ["r2"]
    assert unlogged() - before == 1


def test_what_still_waits_when_the_process_ends_is_counted(monkeypatch):
    monkeypatch.setattr(prediction_log, "FLUSH_SECONDS_MAX", 0.05)

    async def ask():
        producer = Producer()
        producer.held = asyncio.Event()
        subject = endpoint(producer)
        async with subject.running():
            await subject.answer(asked(subject, 1))
            await asyncio.sleep(0.01)
            await subject.answer(asked(subject, 2, 3))

    before = unlogged()
    asyncio.run(ask())
    assert unlogged() - before == 3


def test_what_is_answered_after_the_end_is_counted():
    """As by a model whose declaration was replaced while a request was at work."""

    async def ask():
        subject = endpoint()
        async with subject.running():
            pass
        await subject.answer(asked(subject, 1))
        await asyncio.sleep(0)

    before = unlogged()
    asyncio.run(ask())
    assert unlogged() - before == 1


def test_rows_without_an_answer_are_not_logged():
    async def ask():
        producer = Producer()
        subject = endpoint(producer, arms=[])
        async with subject.running():
            with pytest.raises(UnanswerableError):
                await subject.answer(asked(subject, 1))
        return producer

    assert asyncio.run(ask()).written == {}


def test_a_version_chosen_by_the_caller_is_no_observation_of_the_arms():
    async def ask():
        producer = Producer()
        subject = endpoint(producer)
        async with subject.running():
            answered = await subject.answer(asked(subject, 1), version=1)
            await asyncio.sleep(0.01)
        assert answered.arms[0].version == 1
        return producer

    assert asyncio.run(ask()).written == {}
