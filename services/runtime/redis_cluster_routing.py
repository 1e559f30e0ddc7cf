"""Which node of a Redis Cluster owns the keys of encoded commands. redis-py keeps the map of the slots."""

import itertools
from collections.abc import Sequence
from typing import Any

from redis.exceptions import AskError, ClusterDownError, SlotNotCoveredError, TryAgainError

from services.runtime import redis_commands

REDIRECTIONS = (AskError, TryAgainError, ClusterDownError)
"""Errors of a node that executed nothing: the slot is elsewhere or is moving. MovedError is an AskError."""


class NodeRoutes:
    """Commands by node, and their replies as they arrive."""

    def __init__(self, client: Any, commands: Sequence[bytes]) -> None:
        """Look the nodes up in the slot map of this `redis.asyncio.RedisCluster`."""
        self.replies: list[Any] = [None] * len(commands)
        """One for each command, in order."""
        self.nodes: dict[str, Any] = {}
        """The nodes by name, in the order of their first command."""
        self.misrouted: list[int] = []
        """Indexes of the commands that redis-py must send: no node owns the slot, or another one does now."""
        self._commands = commands
        self._indexes: dict[str, list[int]] = {}
        for index, command in enumerate(commands):
            try:
                node = client.get_node_from_key(redis_commands.key_of(command))
            except SlotNotCoveredError:
                self.misrouted.append(index)
                continue
            self.nodes[node.name] = node
            self._indexes.setdefault(node.name, []).append(index)

    def commands(self, name: str) -> list[bytes]:
        """Return the commands for one node, in order."""
        return [self._commands[index] for index in self._indexes[name]]

    def add_replies(self, name: str, replies: Sequence[Any]) -> None:
        """Store the replies of one node, and note which of its commands it redirected."""
        for index, reply in zip(self._indexes[name], replies, strict=True):
            self.replies[index] = reply
            if isinstance(reply, REDIRECTIONS):
                self.misrouted.append(index)

    def give_up(self, name: str) -> None:
        """Leave the commands of a node that cannot be reached to redis-py."""
        self.misrouted += self._indexes[name]

    def misrouted_arguments(self) -> list[tuple[str | bytes, ...]]:
        """Return name and arguments of each misrouted command."""
        return list(redis_commands.decode([self._commands[index] for index in self.misrouted]))

    def add_misrouted_replies(self, replies: Sequence[Any]) -> None:
        """Store the replies to the misrouted commands as redis-py decoded them."""
        for index, reply in zip(self.misrouted, replies, strict=True):
            is_hash = isinstance(reply, dict)  # redis-py makes a dict of the reply to HGETALL
            self.replies[index] = list(itertools.chain.from_iterable(reply.items())) if is_hash else reply
