"""The Kafka side of retraining, with the topics in memory: what is read, handled, committed, written."""

import msgspec
import pytest
from kafka import TopicPartition

from services.model_registry import ledger
from services.model_registry.ledger import LedgerError
from services.retraining import session
from services.retraining.http_requests import RetrainingCall
from services.runtime.kafka_consumers import MissingTopicError
from services.runtime.topic_identity import TopicRecreatedError
from streams import records, topics
from tests.unit.retraining.session_world import FINISHED, REQUEST, Record, World, steps
from tests.unit.retraining.training_data import declaration


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_a_session_waits_for_its_topic_and_closes_its_clients(world: World) -> None:
    del world.topics[topics.RETRAINING.name]
    with pytest.raises(MissingTopicError), world.opened():
        pass
    assert world.consumer.closed == [{"autocommit": False, "timeout_ms": session.CLOSE_MS}]


def test_a_session_reads_one_request_at_a_time_from_an_assigned_partition(world: World) -> None:
    with world.opened():
        pass
    assert world.consumer.assigned == [TopicPartition(topics.RETRAINING.name, 0)]
    assert world.options == {"group_id": session.GROUP, "max_poll_records": 1}


def test_a_request_without_a_result_is_handled_and_then_committed(world: World) -> None:
    world.consumer.batches = [[Record(records.encode(REQUEST))]]
    with world.opened() as running:
        running.step()
    ((topic, key, value, headers),) = world.producer.sent
    finished = records.decoder_of(records.RetrainingRecord).decode(value)
    assert (topic, key, finished.request_id) == (topics.RETRAINING.name, b"delay", "r1")
    assert finished.result == "failed"
    assert "ce_id" in headers
    assert world.consumer.position == 1


def test_a_topic_that_is_recreated_ends_the_session(world: World) -> None:
    with world.opened() as running:
        running.step()
        world.consumer.recreate(topics.RETRAINING.name)
        with pytest.raises(TopicRecreatedError, match=topics.RETRAINING.name):
            running.step()


def test_an_offset_of_a_topic_that_was_deleted_is_not_used(world: World) -> None:
    """It may have been committed after the topic was recreated, when a long training ended."""
    world.consumer.batches = [[Record(records.encode(REQUEST), 40)]]
    with world.opened() as running:
        running.step()
    with world.opened():
        assert world.consumer.sought == []
    world.consumer.recreate(topics.RETRAINING.name)
    with world.opened():
        assert world.consumer.sought == [session.REQUESTS]


def test_a_request_that_has_its_result_is_only_committed(world: World) -> None:
    world.topics[topics.RETRAINING.name] = [Record(records.encode(REQUEST)), Record(records.encode(FINISHED))]
    world.consumer.batches = [[Record(records.encode(REQUEST))]]
    with world.opened() as running:
        running.step()
    assert world.producer.sent == []
    assert world.consumer.position == 1


@pytest.mark.parametrize("value", [b"{", b"[" * 100_000])
def test_a_record_that_cannot_be_decoded_becomes_a_dead_letter(world: World, value: bytes) -> None:
    world.consumer.batches = [[Record(value)], [Record(records.encode(REQUEST), 1)]]
    with world.opened() as running:
        running.step()
        running.step()
    (first, _, letter, _), (second, _, _, _) = world.producer.sent
    assert (first, second) == (topics.DEAD_LETTERS.name, topics.RETRAINING.name)
    assert records.decoder_of(records.DeadLetter).decode(letter).value == value
    assert world.consumer.position == 2


def test_a_request_waits_until_the_declaration_of_its_model_is_valid(world: World) -> None:
    """Requests of other models are handled meanwhile; after a restart nothing is handled twice."""
    other = msgspec.structs.replace(REQUEST, request_id="r2", model="arrival")
    world.topics[topics.RETRAINING.name] = requests = [
        Record(records.encode(request), offset) for offset, request in enumerate((REQUEST, other))
    ]
    world.faults = {"delay": "delay/model.yaml:3:1: unknown setting"}
    for _ in range(2):  # the process is restarted
        world.consumer.batches = [[each] for each in requests]
        with world.opened() as running:
            steps(running, world, len(requests))
        assert world.results() == {"r2": "there is no model 'arrival'; declared models: "}
        assert world.queue.detail() == {
            "retrainings_waiting": {
                "delay": ["r1: its model.yaml is invalid: delay/model.yaml:3:1: unknown setting"]
            }
        }
        assert world.consumer.commits[-1][0] == 0
        requests.append(Record(world.producer.sent[0][2], len(requests)))
    world.faults = {}
    world.consumer.batches = [[each] for each in requests]
    with world.opened() as running:
        steps(running, world, len(requests))
    assert set(world.results()) == {"r1", "r2"}
    assert world.queue.detail() == {}
    assert world.consumer.position == len(requests)


@pytest.mark.parametrize("value", [None, records.encode(FINISHED)])
def test_what_is_no_request_is_only_committed(world: World, value: bytes | None) -> None:
    world.consumer.batches = [[Record(value)]]
    with world.opened() as running:
        running.step()
    assert world.producer.sent == []
    assert world.consumer.position == 1


def test_ledger_has_reason_and_result_of_a_request_before_its_result_is_written(world: World) -> None:
    world.consumer.batches = [[Record(records.encode(REQUEST))]]
    with world.opened() as running:
        running.step()
    assert [draft.entry_id for draft in world.entries] == [
        f"{REQUEST.request_id}/trigger",
        f"{REQUEST.request_id}/retraining_finished",
    ]
    assert world.entries[0].evidence["reason"] == REQUEST.reason


def test_result_is_not_written_without_the_ledger(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request is then repeated, and the ledger is not left without its entries."""

    def fail(*_: object) -> None:
        raise LedgerError

    monkeypatch.setattr(ledger, "append", fail)
    world.consumer.batches = [[Record(records.encode(REQUEST))]]
    with world.opened() as running, pytest.raises(LedgerError):
        running.step()
    assert world.results() == {}


def test_a_session_waits_for_the_ledger(world: World) -> None:
    del world.topics[topics.LEDGER.name]
    with pytest.raises(MissingTopicError), world.opened():
        pass


def test_a_call_over_http_is_written_once(world: World) -> None:
    world.valid = {"delay": declaration()}
    call = RetrainingCall(request_id="nightly-1", reason="nightly build")
    first, second = world.inbox.put("delay", call), world.inbox.put("delay", call)
    with world.opened() as running:
        running.step()
    ((topic, key, value, headers),) = world.producer.sent
    written = records.decoder_of(records.RetrainingRecord).decode(value)
    assert (topic, key, "ce_id" in headers) == (topics.RETRAINING.name, b"delay", True)
    assert (written.request_id, written.trigger, written.reason) == ("nightly-1", "http", "nightly build")
    assert (first.result(0).repeated, second.result(0).repeated) == (False, True)


def test_a_call_is_a_repeat_also_in_the_next_session(world: World) -> None:
    world.valid = {"delay": declaration()}
    world.topics[topics.RETRAINING.name] = [Record(records.encode(REQUEST)), Record(records.encode(FINISHED))]
    answer = world.inbox.put("delay", RetrainingCall(request_id="r1"))
    with world.opened() as running:
        running.step()
    assert (answer.result(0).repeated, answer.result(0).result) == (True, "failed")
    assert world.producer.sent == []
