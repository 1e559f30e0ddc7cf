"""Which models this worker owns: those of its partitions of a topic that is keyed by model.

All workers of one kind are members of one consumer group on their topic of snapshots. The group gives each
partition to one worker, which restores and runs the models of it. A partition that moves is handed over in
this order:

1. the worker learns in `ModelOwnership.renew` that the partition is not its own any more;
2. it writes the last snapshots of the models and closes them, however long that takes;
3. it says so with `ModelOwnership.release`; only after that the group gives the partition to another worker.

A worker that dies is replaced after the session timeout. One that hung for longer than that, and continues,
is no member any more: `renew` and `require` raise `OwnershipLostError`, and its session ends without
snapshots. What it wrote until then repeats records of the new owner; readers drop repeats.

A thread takes part in the group, so neither a long step nor a slow handover of another worker stops the work.
"""

import collections
import threading
from collections.abc import Callable, Collection, Mapping

import structlog
from kafka import ConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.errors import CommitFailedError, RebalanceInProgressError

from services.runtime import kafka_consumers
from services.runtime.partition_shares import ModelAssignor
from services.runtime.settings import Settings
from streams import kafka_python_internals
from streams.outages import OutageError
from streams.producer import partition_of
from streams.topics import InternalTopic

COMMIT_MS_MAX = 10_000
POLL_MS = 600_000
"""Longer than the group needs to agree: kafka-python discards an agreement that it reaches between polls."""

_log = structlog.get_logger()


class OwnershipLostError(OutageError):
    """The group has given the partitions of this worker to others, because it did not hear from it."""


class ModelOwnership(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python has no types
    """The membership of one worker in its group; no record is read. Its methods are for one thread."""

    def __init__(self, topic: str, connect: Callable[[ModelAssignor], KafkaConsumer]) -> None:
        """Join the group; nothing is owned before its members have agreed.

        Args:
            topic: The topic of snapshots.
            connect: Connects a consumer of this object alone with an assignment strategy.
        """
        self._topic = topic
        self._assigned: frozenset[int] = frozenset()
        self._held: frozenset[int] = frozenset()
        """The partitions whose models may be open."""
        self._declared: frozenset[int] = frozenset()
        """The partitions that the group believes to be held."""
        self._has_changed = False
        self._member: str | None = None
        """The group's name of this worker when it got its first partitions."""
        self._failure: Exception | None = None
        self._names: Collection[str] = ()
        self._assignor = ModelAssignor(topic, self._declare_held, self._models)
        self._consumer = connect(self._assignor)
        self._consumer.subscribe([topic], listener=self)
        self._thread = threading.Thread(target=self._take_part, name="ownership", daemon=True)
        self._thread.start()

    def declare(self, names: Collection[str]) -> None:
        """Take the names of all declared models; the group shares them equally."""
        self._names = tuple(names)

    def partition(self, model: str) -> int:
        """Return the partition of a model that is owned."""
        return partition_of(model.encode(), self._assignor.partitions)

    def owns(self, model: str) -> bool:
        """Return whether this worker owns a model."""
        return bool(self._assigned) and self.partition(model) in self._assigned

    def renew(self) -> bool:
        """Return whether the owned partitions have changed since `release`.

        Raises:
            OwnershipLostError: This worker is no member any more, or its thread hangs.
            KafkaError: The group cannot be reached.
        """
        if self._failure is None:
            if kafka_python_internals.hangs(self._consumer):
                raise OwnershipLostError(
                    "the thread that takes part in the group hangs or cannot reach Kafka; it joins again"
                )
            # kafka-python tells of it if a heartbeat was refused, but not if a request to join was.
            if self._member not in (None, kafka_python_internals.member(self._consumer)):
                self.on_partitions_lost(())
        if self._failure is not None:
            raise self._failure
        if self._declared - self._held:  # again and again: a request during an agreement has no effect
            kafka_python_internals.rejoin(self._consumer)
        return self._has_changed

    def release(self) -> None:
        """Declare that all models of revoked partitions are closed."""
        self._has_changed = False
        self._held &= self._assigned
        self.renew()

    def require(self, partition: int) -> None:
        """Ask the group whether this worker still owns a partition.

        Raises:
            OwnershipLostError: It does not.
            KafkaError: The group's coordinator cannot be reached.
        """
        self.renew()
        key = TopicPartition(self._topic, partition)
        end = self._consumer.end_offsets([key])[key]
        try:  # Kafka refuses commits of those who are no members any more.
            self._consumer.commit({key: OffsetAndMetadata(end, "", -1)}, timeout_ms=COMMIT_MS_MAX)
        except RebalanceInProgressError:
            return  # a member, on the way to the next assignment
        except CommitFailedError as error:
            if not isinstance(error.args[0], RebalanceInProgressError):
                raise OwnershipLostError(f"no snapshot is written: {error}") from error

    def close(self) -> None:
        """Leave the group, so that others take over at once."""
        self._consumer.close(timeout_ms=kafka_consumers.CLOSE_MS)
        self._thread.join(kafka_consumers.CLOSE_MS / 1000)

    # The methods below are called in other threads.

    def _take_part(self) -> None:
        try:
            while self._failure is None:
                self._consumer.poll(timeout_ms=POLL_MS)
        except Exception as error:  # noqa: BLE001  # `renew` raises it; after `close` nobody asks
            self._failure = error

    def _declare_held(self) -> Collection[int]:
        self._declared = self._held
        return self._declared

    def _models(self, partitions: int) -> Mapping[int, int]:
        names = self._names if partitions else ()  # the first metadata may come later
        return collections.Counter(partition_of(name.encode(), partitions) for name in names)

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Own further partitions."""
        self._consumer.pause(*assigned)
        self._member = self._member or kafka_python_internals.member(self._consumer)
        new = frozenset(each.partition for each in assigned)
        self._held |= new
        self._change(self._assigned | new)

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Own these partitions no more; they are held until `release`."""
        self._change(self._assigned - {each.partition for each in revoked})

    def on_partitions_lost(self, lost: Collection[TopicPartition]) -> None:  # noqa: ARG002  # of the interface
        """Own nothing: other workers may run the models already."""
        _log.warning("models.ownership_lost", partitions=sorted(self._assigned))
        self._failure = OwnershipLostError(
            "this worker did not respond to Kafka within the session timeout, so other workers have taken "
            "over its models; it joins the group again"
        )
        self._held = frozenset()
        self._change(frozenset())

    def _change(self, assigned: frozenset[int]) -> None:
        self._assigned, self._has_changed = assigned, True
        _log.info("models.partitions", assigned=sorted(assigned))


def join(settings: Settings, service: str, topic: InternalTopic) -> ModelOwnership:
    """Join the group of the workers of a service, on their topic of snapshots, which exists."""
    return ModelOwnership(
        topic.name,
        lambda assignor: kafka_consumers.connect_member(
            settings, f"{service}-owner", f"driftline.{service}", assignor
        ),
    )
