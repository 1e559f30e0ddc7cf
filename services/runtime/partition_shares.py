"""Shares the partitions of a topic that is keyed by model: equally many models for each member of a group.

The protocol is Kafka's incremental cooperative one (KIP-429): a partition that moves is given to nobody until
its present member has declared that it no longer holds the partition. All other partitions continue.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from kafka.coordinator.assignors.abstract import AbstractPartitionAssignor, RebalanceProtocol
from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment, ConsumerProtocolSubscription

_VERSION = 1
"""Version of the consumer protocol; from this one on, a member declares the partitions that it holds."""


def share(
    held: Mapping[str, Collection[int]], partitions: int, models: Mapping[int, int]
) -> dict[str, set[int]]:
    """Return the partitions of each member: as equal as possible, with few moves.

    Args:
        held: The partitions that each member holds now.
        partitions: The number of partitions.
        models: The number of models in each partition that has any. They count first, then the partitions.
    """
    costs = [models.get(number, 0) * partitions + 1 for number in range(partitions)]
    shares: dict[str, set[int]] = {member: set() for member in sorted(held)}
    free = set(range(partitions))
    for member, mine in shares.items():
        mine.update(free & set(held[member]))
        free -= mine
    for number in sorted(free, key=lambda each: (-costs[each], each)):
        min(shares.values(), key=lambda mine: _sum(mine, costs)).add(number)
    while _move_one(shares, costs):
        pass
    return shares


def _sum(partitions: Iterable[int], costs: Sequence[int]) -> int:
    return sum(costs[number] for number in partitions)


def _move_one(shares: Mapping[str, set[int]], costs: Sequence[int]) -> bool:
    """Move the partition that best evens out the largest and the smallest share; tell whether one helps."""
    largest = max(shares.values(), key=lambda mine: _sum(mine, costs))
    smallest = min(shares.values(), key=lambda mine: _sum(mine, costs))
    gap = _sum(largest, costs) - _sum(smallest, costs)
    # A partition that costs as much as the gap would only swap the two shares.
    if not (candidates := sorted(number for number in largest if costs[number] < gap)):
        return False
    moved = min(candidates, key=lambda number: abs(gap - 2 * costs[number]))
    largest.remove(moved)
    smallest.add(moved)
    return True


def without_moving(
    shares: Mapping[str, Collection[int]], held: Mapping[str, Collection[int]]
) -> dict[str, set[int]]:
    """Return the shares without the partitions that another member still holds."""
    holders = {number: member for member, mine in held.items() for number in mine}
    return {
        member: {number for number in mine if holders.get(number, member) == member}
        for member, mine in shares.items()
    }


class ModelAssignor(AbstractPartitionAssignor):  # type: ignore[misc]  # kafka-python has no types
    """The assignment strategy of the members of one group, all of which read one topic.

    The leader also tells all members how many partitions the topic has, so that they agree on the partition
    of each model while the topic grows.
    """

    name = "driftline-models"
    version = _VERSION

    def __init__(
        self, topic: str, held: Callable[[], Collection[int]], models: Callable[[int], Mapping[int, int]]
    ) -> None:
        """Take the functions that each rebalance calls, in another thread.

        Args:
            topic: Name of the topic.
            held: Returns the partitions that this member holds.
            models: Returns the number of models in each partition, given the number of partitions.
        """
        self._topic = topic
        self._held = held
        self._models = models
        self.partitions = 0
        """Number of partitions of the topic at the last assignment; 0 before the first one."""

    def supported_protocols(self) -> list[RebalanceProtocol]:
        """Return the incremental protocol alone."""
        return [RebalanceProtocol.COOPERATIVE]

    def metadata(self, topics: Collection[str]) -> ConsumerProtocolSubscription:
        """Return what this member declares."""
        owned = ConsumerProtocolSubscription.TopicPartition(
            topic=self._topic, partitions=sorted(self._held())
        )
        return ConsumerProtocolSubscription(
            version=_VERSION, topics=sorted(topics), user_data=b"", owned_partitions=[owned]
        )

    def assign(self, cluster: Any, members: Sequence[Any]) -> dict[str, ConsumerProtocolAssignment]:
        """Return the assignment of each member, as the leader."""
        partitions = len(cluster.partitions_for_topic(self._topic) or ())
        held = {each.member_id: _declared(each.metadata) for each in members}
        shares = without_moving(share(held, partitions, self._models(partitions)), held)
        count = str(partitions).encode()
        return {
            member: ConsumerProtocolAssignment(_VERSION, [(self._topic, sorted(mine))], count)
            for member, mine in shares.items()
        }

    def on_assignment(self, assignment: ConsumerProtocolAssignment, _generation: int) -> None:
        """Note the number of partitions."""
        self.partitions = int(assignment.user_data)


def _declared(metadata: ConsumerProtocolSubscription) -> set[int]:
    return {number for each in metadata.owned_partitions or () for number in each.partitions}
