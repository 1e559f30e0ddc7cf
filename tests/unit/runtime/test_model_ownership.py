"""What a worker makes of the group's answers; tests/flow/test_model_ownership.py asks a real group."""

import threading
import types
from collections.abc import Iterator
from typing import Any, cast

import pytest
from kafka import TopicPartition
from kafka.coordinator.heartbeat import Heartbeat
from kafka.errors import CommitFailedError, KafkaConnectionError, RebalanceInProgressError

from services.runtime.model_ownership import ModelOwnership, OwnershipLostError
from services.runtime.partition_shares import ModelAssignor
from streams.producer import partition_of
from tests.waiting import until

MODEL, PARTITIONS = "fares", 4
PARTITION = partition_of(MODEL.encode(), PARTITIONS)


class Member:
    """A consumer whose group does what the test says."""

    def __init__(self, assignor: ModelAssignor) -> None:
        self.assignor = assignor
        self.listener: Any = None
        self.rejoins = 0
        self.error: Exception | None = None
        self.committed: list[TopicPartition] = []
        self._ends = threading.Event()
        self.heartbeat = Heartbeat()
        self.generation = types.SimpleNamespace(member_id="w1")
        self._coordinator = types.SimpleNamespace(
            request_rejoin=self._rejoin, heartbeat=self.heartbeat, _generation=self.generation
        )

    def _rejoin(self) -> None:
        self.rejoins += 1

    def subscribe(self, topics: list[str], listener: Any) -> None:
        assert topics == ["t"]
        self.listener = listener

    def poll(self, timeout_ms: int) -> None:
        self._ends.wait(timeout_ms / 1000)
        raise self.error or KafkaConnectionError

    def pause(self, *partitions: TopicPartition) -> None:
        assert partitions

    def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 7)

    def commit(self, offsets: dict[TopicPartition, Any], timeout_ms: int) -> None:
        if self.error is not None:
            raise self.error
        self.committed += offsets

    def close(self, timeout_ms: int) -> None:
        self._ends.set()

    def fail(self, error: Exception) -> None:
        self.error = error
        self._ends.set()

    def join(self) -> None:
        """Declare what is held, as a member does in each agreement."""
        self.assignor.metadata({"t"})

    def assign(self, *partitions: int) -> None:
        self.assignor.partitions = PARTITIONS
        self.listener.on_partitions_assigned([TopicPartition("t", number) for number in partitions])

    def revoke(self, *partitions: int) -> None:
        self.listener.on_partitions_revoked([TopicPartition("t", number) for number in partitions])


@pytest.fixture
def ownership() -> Iterator[ModelOwnership]:
    found = ModelOwnership("t", cast("Any", Member))
    yield found
    found.close()


@pytest.fixture
def member(ownership: ModelOwnership) -> Member:
    return cast("Member", ownership._consumer)


def test_nothing_is_owned_before_the_group_has_agreed(ownership: ModelOwnership, member: Member) -> None:
    assert not ownership.owns(MODEL)
    assert not ownership.renew()
    member.assign(PARTITION)
    assert ownership.renew()
    assert ownership.owns(MODEL)


def test_a_revoked_partition_is_declared_as_held_until_it_is_released(
    ownership: ModelOwnership, member: Member
) -> None:
    member.assign(0, 1)
    ownership.release()
    member.revoke(1)
    member.join()
    assert ownership.renew()
    assert ownership._declared == {0, 1}
    assert member.rejoins == 0
    ownership.release()
    assert member.rejoins == 1, "the group has to agree again"
    ownership.renew()
    assert member.rejoins == 2, "a request during an agreement has no effect"
    member.join()
    ownership.renew()
    assert member.rejoins == 2
    assert ownership._declared == {0}


def test_a_lost_membership_ends_the_session(ownership: ModelOwnership, member: Member) -> None:
    member.assign(PARTITION)
    member.listener.on_partitions_lost([TopicPartition("t", PARTITION)])
    assert not ownership.owns(MODEL)
    with pytest.raises(OwnershipLostError, match="other workers have taken over its models"):
        ownership.renew()


@pytest.mark.parametrize("name", ["", "w2"])
def test_a_worker_that_the_group_has_forgotten_ends_the_session(
    ownership: ModelOwnership, member: Member, name: str
) -> None:
    """Also if it got the same partitions again before it looked: others have run its models in between."""
    member.assign(PARTITION)
    ownership.release()
    member.generation.member_id = name
    member.revoke(PARTITION)
    member.assign(PARTITION)
    for ask in (ownership.renew, lambda: ownership.require(PARTITION)):
        with pytest.raises(OwnershipLostError, match="other workers have taken over its models"):
            ask()
    assert not member.committed
    assert not ownership.owns(MODEL)


def test_an_error_of_the_group_ends_the_session(ownership: ModelOwnership, member: Member) -> None:
    member.fail(KafkaConnectionError())
    until(lambda: ownership._failure is not None, "the error is noticed")
    with pytest.raises(KafkaConnectionError):
        ownership.renew()


def test_a_thread_that_hangs_ends_the_session(ownership: ModelOwnership, member: Member) -> None:
    assert not ownership.renew()
    member.heartbeat.poll()
    assert not ownership.renew()
    member.heartbeat.last_poll -= member.heartbeat.config["max_poll_interval_ms"] / 1000
    with pytest.raises(OwnershipLostError, match="hangs"):
        ownership.renew()


def test_only_a_member_may_write(ownership: ModelOwnership, member: Member) -> None:
    ownership.require(2)
    assert member.committed == [TopicPartition("t", 2)]
    for error in (RebalanceInProgressError(), CommitFailedError(RebalanceInProgressError())):
        member.error = error
        ownership.require(2)
    member.error = CommitFailedError()
    with pytest.raises(OwnershipLostError):
        ownership.require(2)
