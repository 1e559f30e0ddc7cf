"""A topic is known by its name and its id."""

import pytest

from services.runtime.topic_identity import (
    TopicRecreatedError,
    identity,
    is_same,
    recreated,
    require_same,
    source_of,
)


@pytest.mark.parametrize(
    ("known", "now", "expected"),
    [
        ("orders@1", "orders@1", True),
        ("orders@1", "orders@2", False),
        ("orders@1", "orders_v2@1", False),
        ("orders@", "orders@1", True),
        ("orders@", "orders_v2@1", False),
        ("", "orders@1", True),
        ("orders@1", "", True),
    ],
)
def test_a_topic_is_known_by_name_and_id(known: str, now: str, *, expected: bool) -> None:
    assert is_same(known, now) is expected


def test_sources_of_different_topics_differ() -> None:
    assert source_of(identity("a", "1")) != source_of(identity("a", "2"))
    assert source_of("") == ""


@pytest.mark.parametrize("now", [{"a": "1", "b": "2"}, {"a": "1"}, {}, {"a": "", "b": "2"}])
def test_the_same_topic_and_a_deleted_one_go_on(now: dict[str, str]) -> None:
    assert recreated({"a": "1", "b": "2"}, now) == []


def test_a_topic_with_another_id_was_recreated() -> None:
    known, now = {"a": "1", "b": "2", "c": ""}, {"a": "1", "b": "3", "c": "4"}
    assert recreated(known, now) == ["b"]
    with pytest.raises(TopicRecreatedError, match="recreated since the last read: b; reading continues"):
        require_same(known, now)
