"""A topic is another one if its id has changed; without ids nothing is known."""

import asyncio
from collections.abc import Mapping

import pytest

from services.archive import topic_watch
from services.archive.topic_watch import TopicWatch
from services.runtime.recreated_topics import TopicRecreatedError


def check(before: Mapping[str, str], now: Mapping[str, str], *, due: bool = False) -> Mapping[str, str]:
    """Start two topics, then check them; return the digests at the start."""
    answers = [before, now]
    watch = TopicWatch(lambda _: answers.pop(0))

    async def run() -> Mapping[str, str]:
        found = await watch.start(["a", "b"])
        await (watch.check_due() if due else watch.check())
        return found

    return asyncio.run(run())


@pytest.mark.parametrize("now", [{"a": "1", "b": "2"}, {"a": "1"}, {}, {"a": "", "b": "2"}])
def test_the_same_topic_and_a_deleted_one_go_on(now: Mapping[str, str]) -> None:
    found = check({"a": "1", "b": "2"}, now)
    assert len({*found.values()} - {""}) == 2


def test_another_topic_of_the_same_name_is_an_error() -> None:
    with pytest.raises(TopicRecreatedError, match="the topic b was recreated"):
        check({"a": "1", "b": "2"}, {"a": "1", "b": "3"})


def test_a_topic_without_an_id_is_not_known() -> None:
    assert check({"a": ""}, {"a": "1", "b": "2"}) == {"a": "", "b": ""}


def test_topics_are_checked_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    check({"a": "1"}, {"a": "2"}, due=True)
    monkeypatch.setattr(topic_watch, "CHECK_SECONDS", 0.0)
    with pytest.raises(TopicRecreatedError):
        check({"a": "1"}, {"a": "2"}, due=True)
