import pytest

from services.runtime import declaration_file
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import ROOT
from services.runtime.topic_creation import (
    RequiredTopic,
    raised_limits,
    required_topics,
    too_narrow,
    widened,
)
from streams import topics


@pytest.fixture(scope="module")
def declarations() -> dict[str, ModelDeclaration]:
    return declaration_file.load_all(ROOT / "models")


def _wanted(declarations, existing=None, applications=(), views=(), partitions=4) -> dict[str, RequiredTopic]:
    wanted = required_topics(declarations, applications, views, existing or {}, partitions)
    return {topic.name: topic for topic in wanted}


def test_topics_of_applications_keep_their_events_for_ever(declarations):
    wanted = _wanted(declarations, applications=["flights.departed"])
    for name in ("flights.scheduled", "flights.arrived", "flights.departed"):
        assert wanted[name].config == {"retention.ms": "-1"}
        assert wanted[name].partitions == 4


def test_every_topic_of_our_own_is_there_with_its_own_settings(declarations):
    wanted = _wanted(declarations, views=["by_origin"])
    named = {
        topics.predictions("arrival_delay"): topics.PREDICTIONS,
        topics.outcomes("arrival_delay"): topics.OUTCOMES,
        topics.repartition("by_origin"): topics.REPARTITION,
    }
    named |= {topic.name: topic for topic in topics.ALL if "{" not in topic.name}
    for name, topic in named.items():
        assert wanted[name].config == topic.config()
        assert wanted[name].partitions == (topic.partitions or 4)


def test_predictions_have_as_many_partitions_as_the_requests_that_exist(declarations):
    wanted = _wanted(declarations, existing={"flights.scheduled": 12})
    assert wanted["driftline.predictions.arrival_delay"].partitions == 12
    assert wanted["driftline.outcomes.arrival_delay"].partitions == 12


def test_topics_of_forwarded_records_grow_with_the_limit_for_records(declarations):
    wanted = required_topics(declarations, [], ["by_origin"], {}, 4, record_bytes_max=5 << 20)
    limits = {topic.name: topic.config.get(topics.MESSAGE_BYTES_MAX) for topic in wanted}
    assert limits[topics.repartition("by_origin")] == str(topics.REPARTITION.message_bytes_max(5 << 20))
    assert limits["flights.scheduled"] is None


def test_limits_are_raised_where_they_are_too_low_and_never_lowered(declarations):
    required = list(_wanted(declarations, views=["v"]).values())
    low, high = topics.repartition("v"), topics.MODELS.name
    limits = {low: 1000, high: 1 << 30, "flights.scheduled": 1, topics.DRIFT.name: 8 << 20}
    assert raised_limits(required, limits) == {low: str(topics.REPARTITION.message_bytes_max())}


def test_no_topic_is_wanted_twice(declarations):
    applications = ["flights.scheduled", "flights.departed"]
    names = [topic.name for topic in required_topics(declarations, applications, [], {}, partitions=4)]
    assert len(names) == len(set(names))


def test_predictions_topic_narrower_than_the_requests_is_refused_by_name(declarations):
    existing = {"flights.scheduled": 12, "driftline.predictions.arrival_delay": 4}
    message = too_narrow(list(_wanted(declarations, existing).values()), existing)
    assert message.startswith("topic driftline.predictions.arrival_delay has 4 partitions and needs 12")


def test_outcomes_get_as_many_partitions_as_the_labels_have_now(declarations):
    existing = {"flights.arrived": 12, "flights.scheduled": 4, "driftline.outcomes.arrival_delay": 4}
    required = list(_wanted(declarations, existing).values())
    assert too_narrow(required, existing) == ""
    assert widened(required, existing) == {"driftline.outcomes.arrival_delay": 12}
    assert widened(required, existing | {"driftline.outcomes.arrival_delay": 16}) == {}


def test_other_topics_may_have_any_number_of_partitions(declarations):
    existing = dict.fromkeys(_wanted(declarations), 1)
    assert too_narrow(list(_wanted(declarations, existing, partitions=8).values()), existing) == ""
