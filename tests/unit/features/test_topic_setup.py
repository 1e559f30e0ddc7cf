"""The topics that the features process reads and writes."""

from services.feature_store.plan import FeaturePlan
from services.features.topic_setup import identity_of, input_topic, read_topics, written_topics
from streams import topics
from tests.unit.features.fakes import BY_ID, BY_SHOP

PLAN = FeaturePlan("p", (BY_ID, BY_SHOP), {})


def test_view_with_the_message_key_reads_its_source_and_another_its_internal_topic() -> None:
    assert input_topic(BY_ID) == "orders"
    assert input_topic(BY_SHOP) == topics.repartition("by_shop")


def test_late_and_internal_topics_have_as_many_partitions_as_their_source() -> None:
    written = {name: partitions for _, name, partitions in written_topics(PLAN, {"orders": 7})}
    assert written == {
        topics.DEAD_LETTERS.name: topics.DEAD_LETTERS.partitions,
        topics.FEATURE_LOG.name: topics.FEATURE_LOG.partitions,
        topics.late("by_id"): 7,
        topics.late("by_shop"): 7,
        topics.repartition("by_shop"): 7,
    }


def test_the_progress_of_a_view_depends_on_its_source_and_on_its_internal_topic() -> None:
    assert read_topics(BY_ID) == ("orders",)
    assert read_topics(BY_SHOP) == ("orders", topics.repartition("by_shop"))


def test_an_identity_changes_with_each_topic_and_is_unknown_without_an_id() -> None:
    names = ("orders", "internal")
    found = {
        identity_of(names, {"orders": orders, "internal": internal}) for orders in "12" for internal in "12"
    }
    assert len(found) == 4
    assert identity_of(names, {"orders": "1"}) == identity_of(names, {"orders": "1", "internal": ""}) == ""
