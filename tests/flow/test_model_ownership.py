"""Which worker owns which model, while workers come, leave, die and hang: members of a real group."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from services.runtime import kafka_consumers, model_ownership
from services.runtime.model_ownership import ModelOwnership, OwnershipLostError
from services.runtime.settings import Settings
from services.runtime.topic_creation import RequiredTopic, create_missing
from streams.topics import InternalTopic
from tests.waiting import LIVENESS_SECONDS, until

MODELS = [f"model{number}" for number in range(6)]
SESSION_SECONDS = 2.0
"""The broker of the tests allows it; by default the shortest is 6."""


class Worker:
    """Opens and closes models as `GuardedModels` does."""

    def __init__(self, ownership: ModelOwnership) -> None:
        self.ownership = ownership
        self.open: set[str] = set()
        self.closed: list[str] = []

    def step(self) -> None:
        self.ownership.declare(MODELS)
        self.ownership.renew()
        owned = {name for name in MODELS if self.ownership.owns(name)}
        self.closed += sorted(self.open - owned)
        self.open &= owned
        self.ownership.release()
        self.open |= owned


class Workers:
    """All workers of one group; none of them may open what another has open."""

    def __init__(self, settings: Settings, topic: InternalTopic) -> None:
        self._settings, self._topic = settings, topic
        self.all: list[Worker] = []

    def start(self) -> Worker:
        worker = Worker(model_ownership.join(self._settings, self._topic.name, self._topic))
        self.all.append(worker)
        return worker

    def step(self, *, may_overlap: bool = False) -> None:
        for worker in self.all:
            worker.step()
            opened = [name for each in self.all for name in each.open]
            assert may_overlap or len(opened) == len(set(opened))

    def until_owned(self, *sizes: int) -> None:
        """Step until every model is open at one worker, and each has so many."""
        self.until(lambda: sorted(len(each.open) for each in self.all) == sorted(sizes))

    def until(self, is_so: Callable[[], bool]) -> None:
        start = time.monotonic()
        while not is_so():
            assert time.monotonic() - start < LIVENESS_SECONDS, [each.open for each in self.all]
            self.step()
            time.sleep(0.02)


@pytest.fixture
def workers(kafka: str, unique_name: str) -> Iterator[Workers]:
    settings = Settings().model_copy(update={"broker": kafka, "session_timeout_seconds": SESSION_SECONDS})
    topic = InternalTopic(unique_name, "", "", "", (), partitions=8)
    create_missing(settings, [RequiredTopic(topic.name, 8, {})])
    workers = Workers(settings, topic)
    yield workers
    for each in workers.all:
        each.ownership.close()


def test_workers_share_models_equally_and_hand_them_over(workers: Workers) -> None:
    first = workers.start()
    workers.until_owned(6)
    workers.start()
    workers.until_owned(3, 3)
    assert len(first.closed) == 3, "three stay open"
    third = workers.start()
    workers.until_owned(2, 2, 2)
    third.ownership.close()
    workers.all.remove(third)
    workers.until_owned(3, 3)
    for worker in workers.all:
        for name in worker.open:
            worker.ownership.require(worker.ownership.partition(name))


def test_a_model_is_handed_over_only_after_it_is_closed(workers: Workers) -> None:
    first = workers.start()
    workers.until_owned(6)
    second = workers.start()
    while first.ownership.renew() is False:
        second.step()
    for _ in range(100):
        second.step()
        first.ownership.renew()
        time.sleep(0.02)
    assert not second.open
    workers.until_owned(3, 3)


def test_a_worker_that_hung_loses_its_models_and_may_write_nothing(workers: Workers) -> None:
    hangs, stays = workers.start(), workers.start()
    workers.until_owned(3, 3)
    # Its thread of heartbeats hangs with it: the process stands still.
    hangs.ownership._consumer._coordinator._close_heartbeat()
    workers.all.remove(hangs)
    last_heartbeat = hangs.ownership._consumer._coordinator.heartbeat.last_send
    workers.until_owned(6)
    assert time.monotonic() - last_heartbeat >= SESSION_SECONDS, "its session ends first"
    with pytest.raises(OwnershipLostError):
        hangs.ownership.require(hangs.ownership.partition(min(hangs.open)))
    workers.until(lambda: hangs.ownership._failure is not None)
    with pytest.raises(OwnershipLostError, match="other workers have taken over"):
        hangs.ownership.renew()
    hangs.ownership.close()
    assert len(stays.open) == 6


def test_a_worker_whose_thread_hangs_loses_its_models_and_may_write_nothing(workers: Workers) -> None:
    """Its heartbeats go on until the group's limit for the time between two polls."""
    hangs, stays = workers.start(), workers.start()
    workers.until_owned(3, 3)
    coordinator, ends = hangs.ownership._consumer._coordinator, threading.Event()
    coordinator.poll = lambda timeout_ms: ends.wait()
    coordinator.heartbeat.config["max_poll_interval_ms"] = 1000
    workers.all.remove(hangs)
    workers.until_owned(6)
    with pytest.raises(OwnershipLostError):
        hangs.ownership.require(hangs.ownership.partition(min(hangs.open)))
    with pytest.raises(OwnershipLostError, match="hangs"):
        hangs.ownership.renew()
    hangs.ownership.close()
    ends.set()
    assert len(stays.open) == 6


def test_a_worker_whose_thread_dies_is_told_and_leaves(workers: Workers) -> None:
    dies = workers.start()
    workers.start()
    workers.until_owned(3, 3)

    def fail(timeout_ms: float) -> None:
        raise ZeroDivisionError

    dies.ownership._consumer._coordinator.poll = fail
    workers.all.remove(dies)
    until(lambda: dies.ownership._failure is not None, "the thread has died")
    with pytest.raises(ZeroDivisionError):
        dies.ownership.renew()
    dies.ownership.close()
    workers.until_owned(6)


def test_members_agree_on_the_partition_of_a_model_while_the_topic_grows(workers: Workers) -> None:
    workers.start(), workers.start()
    workers.until_owned(3, 3)
    consumer = kafka_consumers.connect(workers._settings, "test")
    wider = RequiredTopic(workers._topic.name, 16, {}, 16, grows=True)
    create_missing(workers._settings, [wider])
    for each in workers.all:
        each.ownership._consumer._cluster.request_update()
    workers.until(lambda: all(each.ownership._assignor.partitions == 16 for each in workers.all))
    workers.until_owned(3, 3)
    consumer.close()
