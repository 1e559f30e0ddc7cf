"""Commands by node of a cluster, with a slot map in memory."""

from types import SimpleNamespace
from typing import Any

from redis.exceptions import MovedError, SlotNotCoveredError, TryAgainError

from services.runtime.redis_cluster_routing import NodeRoutes
from services.runtime.redis_commands import encode


class SlotMap:
    """A cluster's client that knows the node of some keys."""

    def __init__(self, **nodes: str) -> None:
        self._nodes = {name: SimpleNamespace(name=name) for name in nodes.values()}
        self._owners = {key.encode(): self._nodes[name] for key, name in nodes.items()}

    def get_node_from_key(self, key: bytes) -> Any:
        if key not in self._owners:
            raise SlotNotCoveredError(f"no node has {key!r}")
        return self._owners[key]


def get(key: str) -> bytes:
    return encode(("HGETALL", key))


def test_each_node_gets_its_own_commands_in_order() -> None:
    routes = NodeRoutes(SlotMap(a="east", b="west", c="east"), [get("a"), get("b"), get("c")])
    assert list(routes.nodes) == ["east", "west"]
    assert routes.commands("east") == [get("a"), get("c")]
    assert routes.commands("west") == [get("b")]
    assert routes.misrouted == []


def test_replies_stand_in_the_order_of_the_commands_whichever_node_is_first() -> None:
    routes = NodeRoutes(SlotMap(a="east", b="west", c="east"), [get("a"), get("b"), get("c")])
    routes.add_replies("west", [b"of b"])
    routes.add_replies("east", [b"of a", b"of c"])
    assert routes.replies == [b"of a", b"of b", b"of c"]


def test_commands_without_an_owner_redirected_ones_and_those_of_a_lost_node_are_left_to_redis_py() -> None:
    commands = [get("nobody's"), get("a"), get("b"), get("c"), get("d")]
    routes = NodeRoutes(SlotMap(a="east", b="west", c="north", d="east"), commands)
    routes.add_replies("east", [MovedError("7 10.0.0.1:6379"), b"of d"])
    routes.give_up("west")
    routes.add_replies("north", [TryAgainError()])
    assert routes.misrouted == [0, 1, 2, 3]
    assert routes.misrouted_arguments() == [("HGETALL", key) for key in (b"nobody's", b"a", b"b", b"c")]
    routes.add_misrouted_replies([{}, {b"field": b"of a"}, b"of b", None])
    assert routes.replies == [[], [b"field", b"of a"], b"of b", None, b"of d"]


def test_an_error_that_is_no_redirection_is_the_reply() -> None:
    routes = NodeRoutes(SlotMap(a="east"), [get("a")])
    error = ValueError("of the command itself")
    routes.add_replies("east", [error])
    assert routes.replies == [error]
    assert routes.misrouted == []
