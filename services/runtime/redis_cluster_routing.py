"""Which node of a Redis Cluster has the keys of encoded commands. redis-py keeps the map of the slots."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, cast

import hiredis
from redis.exceptions import AskError, ClusterDownError, SlotNotCoveredError, TryAgainError

ASTRAY = (AskError, TryAgainError, ClusterDownError)
"""Answers of a node that has done nothing: the slot is elsewhere or on its way. MOVED is a kind of ASK."""
_SCRIPT = b"EVALSHA"


class Routes:
    """Commands by node, and their replies as they come."""

    def __init__(self, client: Any, commands: Sequence[bytes]) -> None:
        """Look the nodes up in the map of this `RedisCluster` of either kind."""
        self.replies: list[Any] = [None] * len(commands)
        self.nodes: dict[str, Any] = {}
        """By name, in the order of their first command."""
        self.astray: list[int] = []
        """The places of commands that redis-py is to send: no node has the slot, or none yet."""
        self._commands = commands
        self._places: dict[str, list[int]] = {}
        for place, command in enumerate(commands):
            try:
                node = client.get_node_from_key(key_of(command))
            except SlotNotCoveredError:
                self.astray.append(place)
                continue
            self.nodes[node.name] = node
            self._places.setdefault(node.name, []).append(place)

    def commands(self, name: str) -> list[bytes]:
        """Return what one node gets, in order."""
        return [self._commands[place] for place in self._places[name]]

    def take(self, name: str, replies: Sequence[Any]) -> None:
        """Put the replies of one node to their places."""
        for place, reply in zip(self._places[name], replies, strict=True):
            self.replies[place] = reply
            if isinstance(reply, ASTRAY):
                self.astray.append(place)

    def lose(self, name: str) -> None:
        """Leave to redis-py what this node should have got."""
        self.astray += self._places[name]

    def astray_arguments(self) -> list[tuple[str | bytes, ...]]:
        """Return name and arguments of each command that is astray."""
        return list(_decoded([self._commands[place] for place in self.astray]))

    def take_astray(self, replies: Sequence[Any]) -> None:
        """Put to their places what redis-py has made of the replies to those commands."""
        for place, reply in zip(self.astray, replies, strict=True):
            is_hash = isinstance(reply, dict)  # of HGETALL
            self.replies[place] = list(itertools.chain.from_iterable(reply.items())) if is_hash else reply


def key_of(command: bytes) -> bytes:
    """Return the key of an encoded command: the first argument, or the first key of EVALSHA."""
    *_, name, size, rest = command.split(b"\r\n", 4)
    if name == _SCRIPT:
        *_, size, rest = command.split(b"\r\n", 8)  # behind the digest and the number of keys
    return rest[: int(size[1:])]


def _decoded(commands: Sequence[bytes]) -> Iterator[tuple[str | bytes, ...]]:
    """Yield name and arguments of encoded commands, which have the form of replies."""
    reader = hiredis.Reader()
    for command in commands:
        reader.feed(command)
        name, *arguments = cast("list[bytes]", reader.gets())
        yield (name.decode(), *arguments)
