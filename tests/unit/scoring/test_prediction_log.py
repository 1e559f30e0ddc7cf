"""Predictions over HTTP are logged after the response: never before it, never twice, none lost uncounted."""

import asyncio
from typing import Any

import msgspec
import pytest

from services.scoring import prediction_log
from services.scoring.online_predictor import ModelFailedError, NoModelError
from streams import records
from streams.producer import RecordTooLargeError
from tests.unit.scoring.fakes import (
    CHAMPION,
    SECONDS_MAX,
    SHADOW,
    GatedModel,
    HalfOfX,
    Producer,
    event,
    predictor,
    sample,
    settle,
)

TOPIC = "driftline.predictions.m"


def unlogged():
    return sample("driftline_predictions_unlogged_total", model="m")


def logged(producer):
    return [msgspec.json.decode(value, type=records.Prediction) for _, value, _ in producer.written[TOPIC]]


async def ask(subject, *numbers):
    """Predict as for a caller that gets the predictions."""
    subject.log(await subject.predict(events(subject, *numbers)))


def events(subject, *numbers):
    return [event(subject.pipeline, number) for number in numbers]


def test_a_prediction_over_http_has_no_source_record():
    async def run():
        producer = Producer()
        subject = predictor(producer)
        async with subject.running():
            await ask(subject, 1, 2)
        return producer

    producer = asyncio.run(run())
    found = logged(producer)
    assert [one.prediction_id for one in found] == ["r1", "r2"]
    assert [key for key, _, _ in producer.written[TOPIC]] == [b"r1", b"r2"]
    assert {(one.source_partition, one.source_offset) for one in found} == {(-1, -1)}
    assert found[0].features == [1.0, "abc", 3.0]
    assert (found[0].score, found[0].version, found[0].arm_weight) == (0.5, 1, 10_000)


def test_each_prediction_is_a_cloud_event_with_its_own_id_if_configured():
    async def run():
        producer = Producer()
        subject = predictor(producer, cloud_events=True)
        async with subject.running():
            await ask(subject, 1, 2)
            await ask(subject, 1)
        return producer

    headers = [dict(record_headers) for _, _, record_headers in asyncio.run(run()).written[TOPIC]]
    assert {each["ce_type"] for each in headers} == {b"driftline.prediction"}
    assert len({each["ce_id"] for each in headers}) == 3


def test_rows_of_neighbours_are_encoded_together_but_not_without_bound():
    most = prediction_log.ROWS_AT_ONCE
    unread: Any = None  # only the numbers of the rows matter here
    batch = prediction_log.AnsweredBatch(unread)
    for rows in (range(2), range(2, 3), range(5, 6), range(6, most + 5), range(most + 5, most + 6)):
        batch.add(rows)
    assert batch.take() == [range(3), range(5, most + 5), range(most + 5, most + 6)]
    assert batch.take() == []


def test_a_response_waits_for_neither_the_shadows_nor_the_log(monkeypatch):
    """Both responses are given before any shadow has scored and before anything is written."""
    monkeypatch.setattr(prediction_log, "FLUSH_SECONDS_MAX", SECONDS_MAX)

    async def run():
        gate = asyncio.Event()
        producer, shadow = Producer(gate), GatedModel(offset=0.1)
        models, arms = {1: HalfOfX(), 2: shadow}, [CHAMPION, SHADOW]
        subject = predictor(producer, models=models, arms=arms, limits={"shadow_wait_ms": 10_000})
        async with subject.running():
            await ask(subject, 0)
            await ask(subject, 1)
            assert producer.written == {}
            shadow.release()
            gate.set()
        return producer

    found = logged(asyncio.run(run()))
    assert [one.prediction_id for one in found] == ["r0", "r1"]
    assert found[0].shadow_scores == {"frozen": pytest.approx(0.6)}


def test_predictions_beyond_the_queue_are_dropped_and_counted(monkeypatch):
    monkeypatch.setattr(prediction_log, "ROWS_MAX", 3)

    async def run():
        gate = asyncio.Event()
        producer = Producer(gate)
        subject = predictor(producer)
        async with subject.running():
            for number in range(5):
                await ask(subject, number)
            await settle()
            gate.set()
        return producer

    before = unlogged()
    producer = asyncio.run(run())
    assert [one.prediction_id for one in logged(producer)] == ["r0", "r1", "r2"]
    assert unlogged() - before == 2


def test_a_prediction_that_is_too_large_costs_itself_alone():
    class Limited(Producer):
        async def send_by_key(self, topic, batch):
            for each in batch:
                if each[0] == b"r2":
                    raise RecordTooLargeError(topic, each, 9_000_000, 1 << 20)
            await super().send_by_key(topic, batch)

    async def run():
        producer = Limited()
        subject = predictor(producer)
        async with subject.running():
            await ask(subject, 1, 2, 3)
        return producer

    before = unlogged()
    assert [one.prediction_id for one in logged(asyncio.run(run()))] == ["r1", "r3"]
    assert unlogged() - before == 1


def test_predictions_that_the_broker_rejects_are_counted_and_the_next_are_written():
    class FailingOnce(Producer):
        has_failed = False

        async def send_by_key(self, topic, batch):
            self.is_writing.set()
            if not self.has_failed:
                self.has_failed = True
                raise OSError("no broker")
            await super().send_by_key(topic, batch)

    async def run():
        producer = FailingOnce()
        subject = predictor(producer)
        async with subject.running():
            await ask(subject, 1)
            await asyncio.wait_for(producer.is_writing.wait(), SECONDS_MAX)
            await ask(subject, 2)
        return producer

    before = unlogged()
    assert [one.prediction_id for one in logged(asyncio.run(run()))] == ["r2"]
    assert unlogged() - before == 1


def test_predictions_not_written_by_the_end_of_the_process_are_counted(monkeypatch):
    """One is being written, two are in the queue."""
    monkeypatch.setattr(prediction_log, "FLUSH_SECONDS_MAX", 0.0)

    async def run():
        producer = Producer(gate=asyncio.Event())
        subject = predictor(producer)
        async with subject.running():
            await ask(subject, 1)
            await asyncio.wait_for(producer.is_writing.wait(), SECONDS_MAX)
            await ask(subject, 2, 3)
            await settle()

    before = unlogged()
    asyncio.run(run())
    assert unlogged() - before == 3


def test_predictions_after_the_end_are_counted():
    """A declaration may be replaced while a request for its model is in progress."""

    async def run():
        subject = predictor()
        async with subject.running():
            pass
        await ask(subject, 1)
        await settle()

    before = unlogged()
    asyncio.run(run())
    assert unlogged() - before == 1


def test_rows_without_a_prediction_are_not_logged():
    async def run():
        producer = Producer()
        subject = predictor(producer, arms=[])
        async with subject.running():
            with pytest.raises(NoModelError):
                await subject.predict(events(subject, 1))
        return producer

    assert asyncio.run(run()).written == {}


def test_the_rows_of_a_request_that_failed_are_not_logged_and_those_of_its_batch_are():
    """Both requests share a batch; one row of the second one cannot be predicted."""

    async def run():
        producer = Producer()
        subject = predictor(producer, models={1: HalfOfX(poison=7.0)})
        bad = event(subject.pipeline, 9, x=7.0)
        async with subject.running():
            good, failed = ask(subject, 1, 2), subject.predict([*events(subject, 3), bad])
            found = await asyncio.gather(good, failed, return_exceptions=True)
        assert isinstance(found[1], ModelFailedError)
        return producer

    assert [one.prediction_id for one in logged(asyncio.run(run()))] == ["r1", "r2"]


def test_rows_that_no_caller_got_are_not_logged_and_their_shadows_end(monkeypatch):
    monkeypatch.setattr(prediction_log, "UNANSWERED_SECONDS_MAX", 0.0)

    async def run():
        producer, shadow = Producer(), GatedModel(offset=0.1)
        subject = predictor(producer, models={1: HalfOfX(), 2: shadow}, arms=[CHAMPION, SHADOW])
        async with subject.running():
            predictions = await subject.predict(events(subject, 1))
            await settle()
            assert await predictions.batch.shadow_scores() == {}
            shadow.release()
        return producer

    before = unlogged()
    assert asyncio.run(run()).written == {}
    assert unlogged() == before


def test_one_request_is_logged_although_it_is_larger_than_the_queue(monkeypatch):
    monkeypatch.setattr(prediction_log, "ROWS_MAX", 3)

    async def run():
        producer = Producer()
        subject = predictor(producer)
        async with subject.running():
            await ask(subject, *range(5))
        return producer

    assert len(logged(asyncio.run(run()))) == 5


def test_a_batch_of_which_a_row_is_answered_later_keeps_the_scores_of_its_shadows():
    """An explanation is computed after the other callers of the batch have their answers."""

    async def run():
        producer = Producer()
        subject = predictor(producer, arms=[CHAMPION, SHADOW], limits={"shadow_wait_ms": 10_000})
        async with subject.running():
            first, second = await asyncio.gather(
                subject.predict(events(subject, 1)), subject.predict(events(subject, 2))
            )
            assert first.batch is second.batch
            subject.log(first)
            await asyncio.wait_for(producer.is_writing.wait(), SECONDS_MAX)
            subject.log(second)
        return producer

    found = logged(asyncio.run(run()))
    assert [one.prediction_id for one in found] == ["r1", "r2"]
    assert [list(one.shadow_scores) for one in found] == [["frozen"], ["frozen"]]


def test_a_version_chosen_by_the_caller_is_not_logged():
    """It is no observation of the arms: no random assignment chose it."""

    async def run():
        producer = Producer()
        subject = predictor(producer)
        async with subject.running():
            predictions = await subject.predict(events(subject, 1), version=1)
            subject.log(predictions)
            await settle()
        assert predictions.arms[0].version == 1
        return producer

    assert asyncio.run(run()).written == {}
