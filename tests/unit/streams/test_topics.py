import contextlib
import re

import pytest

from streams import topics
from streams.topics import InternalTopic


@pytest.mark.parametrize("name", [topic.name.format(model="m", view="v") for topic in topics.ALL])
def test_no_topic_of_our_own_is_one_of_an_application(name):
    with pytest.raises(ValueError, match="write requests and labels to another topic"):
        topics.check_application_topic(name)


@pytest.mark.parametrize(
    ("name", "may_be"),
    [
        ("orders", True),
        ("driftline.predictions.m", True),
        ("driftline.outcomes.m", True),
        ("driftline.features.of.somebody", True),
        ("driftline.features", False),
        ("driftline.dead-letters", False),
        ("driftline.late.v", False),
        ("driftline.repartition.v", False),
        ("payments x", False),
    ],
)
def test_what_features_writes_is_no_source_of_features(name, may_be):
    with contextlib.nullcontext() if may_be else pytest.raises(ValueError, match="topic"):
        topics.check_source_topic(name)


def test_every_topic_is_listed_once() -> None:
    declared = [value for value in vars(topics).values() if isinstance(value, InternalTopic)]
    assert list(topics.ALL) == declared
    assert len({topic.name for topic in topics.ALL}) == len(topics.ALL)


def test_names_belong_to_driftline_and_have_one_variable_at_most() -> None:
    """Kafka allows letters, digits, dot, underscore and hyphen."""
    for topic in topics.ALL:
        assert re.fullmatch(r"driftline(\.[a-z-]+)+(\.\{(model|view)\})?", topic.name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (topics.predictions("m"), "driftline.predictions.m"),
        (topics.outcomes("m"), "driftline.outcomes.m"),
        (topics.repartition("v"), "driftline.repartition.v"),
        (topics.late("v"), "driftline.late.v"),
    ],
)
def test_a_topic_of_a_model_or_view_has_its_name(name: str, expected: str) -> None:
    assert name == expected


def test_the_broker_gets_retention_and_limits_as_text() -> None:
    topic = InternalTopic("n", "k", "r", "p", ("c",))
    assert topic.config() == {
        "cleanup.policy": "delete",
        "retention.ms": "2592000000",
        "max.message.bytes": "1048576",
    }
    assert topics.MODELS.config()["cleanup.policy"] == "compact"
    assert topics.DEAD_LETTERS.config() == {
        "cleanup.policy": "delete",
        "retention.ms": "-1",
        "max.message.bytes": str(8 << 20),
    }


@pytest.mark.parametrize("topic", [each for each in topics.ALL if each.copies], ids=lambda each: each.name)
@pytest.mark.parametrize("record_bytes_max", [1024, topics.RECORD_BYTES_MAX, 7 << 20])
def test_what_follows_from_a_record_of_the_largest_size_fits(
    topic: InternalTopic, record_bytes_max: int
) -> None:
    limit = topic.message_bytes_max(record_bytes_max)
    assert limit >= record_bytes_max + topics.OVERHEAD_BYTES
    assert topic.config(record_bytes_max)[topics.MESSAGE_BYTES_MAX] == str(limit)
    assert topic.message_bytes_max(record_bytes_max + 1) >= limit


def test_the_limit_of_other_topics_does_not_depend_on_it() -> None:
    assert topics.MODELS.message_bytes_max(100 << 20) == topics.MODELS.message_bytes_max()


def test_dead_letters_have_one_partition_as_their_marks_are_read_in_order() -> None:
    assert topics.DEAD_LETTERS.partitions == 1


def test_topics_that_follow_another_have_no_number_of_partitions() -> None:
    followers = {topic.name for topic in topics.ALL if topic.partitions is None}
    assert followers == {topic.name for topic in topics.ALL if "{" in topic.name}
