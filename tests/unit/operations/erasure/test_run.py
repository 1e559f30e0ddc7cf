"""An erasure is recognised by its digest, and names what Kafka holds."""

from pathlib import Path
from typing import Any

import pytest

from services.operations.erasure import run
from services.operations.erasure.kafka_holdings import Retention
from services.operations.erasure.places import World
from services.runtime.settings import Settings
from streams.records import Erasure
from tests.unit.operations.erasure import subjects


class Holdings:
    """Kafka with two partitions in each topic."""

    def retentions(self, topics: list[str]) -> list[Retention]:
        return [Retention(topic, "delete", -1 if topic == "clicks" else 10, 0, 0) for topic in topics]

    def ends(self, topic: str) -> list[int]:
        return [len(topic), 0]

    def topic_id(self, topic: str) -> str:
        return f"id of {topic}"


def world(tmp_path: Path, *words: str) -> World:
    holdings: Any = Holdings()
    chosen, matcher = subjects.of(*words), subjects.matcher(*words)
    settings = Settings(_env_file=None, home=tmp_path)
    return World(settings, subjects.PLAN, subjects.MODELS, chosen, matcher, holdings, None)


def test_topics_that_may_hold_the_subject_are_named_once(tmp_path: Path) -> None:
    assert run.holding_topics(world(tmp_path, "customer", "ada"))[:9] == [
        "tips.asked", "clicks", "driftline.late.by_user", "driftline.late.by_shop_user",
        "driftline.late.by_shop", "driftline.repartition.by_shop_user", "driftline.repartition.by_shop",
        "tips.tips", "driftline.predictions.tips",
    ]  # fmt: skip
    assert "weather" not in run.holding_topics(world(tmp_path, "customer", "ada"))


@pytest.fixture
def first(tmp_path: Path) -> Erasure:
    return run._erasure(world(tmp_path, "customer", "ada"), [], None)


def test_an_erasure_covers_the_sources_of_the_views_of_the_subject(first: Erasure) -> None:
    assert first.offsets == {"clicks": [6, 0]}
    assert first.topic_ids == {"clicks": "id of clicks"}
    assert first.expires_ms is None, "clicks has no limit"
    assert not first.complete


def test_erasures_share_a_salt_and_one_that_was_interrupted_keeps_its_id(
    tmp_path: Path, first: Erasure
) -> None:
    other = run._erasure(world(tmp_path, "customer", "eve"), [first], None)
    assert other.salt == first.salt
    assert (other.digest, other.erasure_id) != (first.digest, first.erasure_id)
    again = run._erasure(world(tmp_path, "customer", "ada"), [first, other], first)
    assert (again.digest, again.erasure_id) == (first.digest, first.erasure_id)


def test_a_subject_is_recognised_by_its_digest(first: Erasure) -> None:
    assert run._is_of(first, subjects.of("customer", "ada"))
    assert not run._is_of(first, subjects.of("customer", "eve"))
    assert not run._is_of(first, subjects.of("shop", "ada"))


def test_the_wait_ends_when_nothing_is_lacking_or_the_time_is_over() -> None:
    left = iter([3, 2, 0])
    assert run._waited(lambda: next(left), 60) == 0
    assert run._waited(lambda: 4, 0) == 4
