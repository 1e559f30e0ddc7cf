import asyncio
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError
from prometheus_client import REGISTRY

from services.runtime import kafka_outbox
from services.runtime.kafka_outbox import RETRY_SECONDS_MAX, STOP_SECONDS_MAX, Outbox, StoppedError
from streams.producer import Record, RecordTooLargeError

A: Record = (b"a", b"1", [])
B: Record = (b"b", b"2", [])


class Broker:
    """What the producers of a test did; ``failures`` are raised by the next sends."""

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self.written: list[tuple[str, int, list[Record]]] = []
        self.connections: list[Mapping[str, Any]] = []
        self.disconnections = 0
        self.is_silent = False

    def producer(self, options: Mapping[str, Any]) -> "Producer":
        return Producer(self, options)


class Producer:
    def __init__(self, broker: Broker, options: Mapping[str, Any]) -> None:
        self._broker, self._options = broker, options

    async def start(self) -> None:
        self._broker.connections.append(self._options)

    async def stop(self, patience_seconds: float) -> None:
        assert patience_seconds < STOP_SECONDS_MAX
        self._broker.disconnections += 1

    async def send(self, topic: str, partition: int, batch: Iterable[Record]) -> None:
        if self._broker.is_silent:
            await asyncio.get_running_loop().create_future()
        if self._broker.failures:
            raise self._broker.failures.pop(0)
        self._broker.written.append((topic, partition, list(batch)))


class StopEvent(threading.Event):
    """Counts the waits instead of waiting; is set after ``waits_max`` of them."""

    def __init__(self, waits_max: int = 100) -> None:
        super().__init__()
        self._waits_max = waits_max
        self.waits_seconds: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits_seconds.append(timeout)
        if len(self.waits_seconds) >= self._waits_max:
            self.set()
        return self.is_set()


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    broker = Broker()
    monkeypatch.setattr(kafka_outbox, "BatchProducer", broker.producer)
    return broker


@pytest.fixture
def stopping() -> StopEvent:
    return StopEvent()


@pytest.fixture
def outbox(broker: Broker, stopping: StopEvent) -> Iterator[Outbox]:
    assert not broker.connections
    outbox = Outbox("outbox_test", {"bootstrap_servers": ["b:1"]}, stopping)
    yield outbox
    outbox.close()


def retries() -> float:
    return REGISTRY.get_sample_value("driftline_slice_retries_total", {"service": "outbox_test"}) or 0


def test_stages_use_one_connection_and_empty_batches_none(outbox: Outbox, broker: Broker) -> None:
    outbox.write({})
    outbox.write({("t", 0): []})
    assert broker.connections == []
    outbox.write({("t", 0): [A], ("t", 1): [], ("u", 2): [A, B]})
    outbox.write({("t", 0): [B]})
    assert broker.connections == [{"bootstrap_servers": ["b:1"]}]
    assert broker.written == [("t", 0, [A]), ("u", 2, [A, B]), ("t", 0, [B])]


@pytest.mark.parametrize("error", [KafkaConnectionError("gone"), OSError("reset")])
def test_a_failed_stage_is_repeated_whole(error: Exception, outbox: Outbox, broker: Broker) -> None:
    before = retries()
    broker.failures = [error]
    outbox.write({("t", 0): [A], ("t", 1): [B]})
    assert broker.written[-2:] == [("t", 0, [A]), ("t", 1, [B])]
    assert retries() == before + 1


def test_pauses_double_up_to_a_maximum(outbox: Outbox, broker: Broker, stopping: StopEvent) -> None:
    broker.failures = [OSError("gone")] * 8
    outbox.write({("t", 0): [A]})
    waits = [round(seconds or 0, 6) for seconds in stopping.waits_seconds]
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, RETRY_SECONDS_MAX, RETRY_SECONDS_MAX]
    assert broker.written == [("t", 0, [A])]


@pytest.mark.parametrize(
    "error", [RecordTooLargeError("t", A, 2, 1), MessageSizeTooLargeError(), ValueError("a defect")]
)
def test_an_error_that_waiting_does_not_mend_is_raised(
    error: Exception, outbox: Outbox, broker: Broker, stopping: StopEvent
) -> None:
    broker.failures = [error]
    with pytest.raises(type(error)):
        outbox.write({("t", 0): [A], ("t", 1): [B]})
    assert stopping.waits_seconds == []
    assert broker.written == [("t", 1, [B])]


def test_a_record_at_fault_is_raised_although_the_broker_went_away_meanwhile(
    outbox: Outbox, broker: Broker
) -> None:
    broker.failures = [KafkaConnectionError("gone"), RecordTooLargeError("t", B, 2, 1)]
    with pytest.raises(RecordTooLargeError):
        outbox.write({("t", 0): [A], ("t", 1): [B]})


def too_large() -> float:
    labels = {"service": "outbox_test", "topic": "t"}
    return REGISTRY.get_sample_value("driftline_records_too_large_total", labels) or 0


def test_a_record_that_does_not_fit_is_left_out_and_counted(outbox: Outbox, broker: Broker) -> None:
    before = too_large()
    broker.failures = [RecordTooLargeError("t", A, 2, 1)]
    outbox.write_what_fits({("t", 0): [A, B], ("u", 0): []})
    assert broker.written == [("t", 0, [B])]
    assert too_large() == before + 1


def test_a_stage_of_which_nothing_fits_writes_nothing(outbox: Outbox, broker: Broker) -> None:
    broker.failures = [RecordTooLargeError("t", A, 2, 1)]
    outbox.write_what_fits({("t", 0): [A]})
    assert broker.written == []


def test_a_record_that_is_not_of_the_stage_is_not_searched_for_ever(outbox: Outbox, broker: Broker) -> None:
    broker.failures = [RecordTooLargeError("t", (b"a", b"1", []), 2, 1)]
    with pytest.raises(RecordTooLargeError):
        outbox.write_what_fits({("t", 0): [A]})


def test_a_stop_ends_the_retries(broker: Broker) -> None:
    stopping = StopEvent(waits_max=2)
    outbox = Outbox("outbox_test", {}, stopping)
    broker.failures = [OSError("gone")] * 5
    with pytest.raises(StoppedError, match="stopped while Kafka did not acknowledge; a restart repeats"):
        outbox.write({("t", 0): [A]})
    assert len(stopping.waits_seconds) == 2
    outbox.close()


def test_a_stop_ends_the_wait_for_a_silent_broker(
    outbox: Outbox, broker: Broker, stopping: StopEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_outbox, "STOP_SECONDS_MAX", 0.1)
    broker.is_silent = True
    stopping.set()
    with pytest.raises(StoppedError, match="stopped while Kafka did not respond; a restart repeats"):
        outbox.write({("t", 0): [A]})
    assert broker.written == []


def test_closing_disconnects_and_ends_the_thread(broker: Broker, stopping: StopEvent) -> None:
    threads = threading.active_count()
    outbox = Outbox("outbox_test", {}, stopping)
    outbox.write({("t", 0): [A]})
    outbox.close()
    assert broker.disconnections == 1
    assert threading.active_count() == threads
