"""The topics on a real broker."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from services.runtime import declaration_file
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import ROOT, Settings
from services.runtime.topic_creation import TopicsError, ensure_topics, partition_counts
from streams import topics
from tests.waiting import until


@pytest.fixture
def local(kafka: str) -> Settings:
    return Settings().model_copy(update={"broker": kafka, "partitions": 3})


@pytest.fixture
def admin(local: Settings):
    from kafka import KafkaAdminClient

    client = KafkaAdminClient(**local.kafka_options())
    yield client
    client.close()


@pytest.fixture
def declarations(unique_name: str) -> dict[str, ModelDeclaration]:
    """The demo's model under another name, with request and label topics of its own."""
    given = declaration_file.load_all(ROOT / "models")["arrival_delay"]
    request = given.request.model_copy(update={"topic": f"{unique_name}.requests"})
    label = given.label.model_copy(update={"topic": f"{unique_name}.labels"})
    return {unique_name: given.model_copy(update={"name": unique_name, "request": request, "label": label})}


def test_missing_topics_are_created_with_their_settings(local, admin, declarations, unique_name):
    ensure_topics(local, declarations, applications=[f"{unique_name}.events"], views=[f"{unique_name}_view"])
    requests, predictions = f"{unique_name}.requests", topics.predictions(unique_name)
    for name in (requests, f"{unique_name}.labels", f"{unique_name}.events", predictions):
        assert _partitions(admin, name) == 3
    assert _partitions(admin, topics.repartition(f"{unique_name}_view")) == 3
    assert _config(admin, requests)["retention.ms"] == "-1"
    for topic, name in ((topics.PREDICTIONS, predictions), (topics.MODELS, topics.MODELS.name)):
        assert topic.config().items() <= _config(admin, name).items()


def test_the_limit_of_a_topic_that_exists_is_raised_and_its_other_settings_stay(
    local, admin, declarations, unique_name
):
    ensure_topics(local, declarations)
    name = topics.predictions(unique_name)
    _alter(admin, name, **{"retention.ms": "1234567", "max.message.bytes": "1000"})
    ensure_topics(local.model_copy(update={"record_bytes_max": 3 << 20}), declarations)
    found = _config(admin, name)
    assert found["max.message.bytes"] == str(topics.PREDICTIONS.message_bytes_max(3 << 20))
    assert found["retention.ms"] == "1234567"
    ensure_topics(local, declarations)
    assert _config(admin, name) == found


def test_many_processes_may_ask_at_once_and_again(local, admin, declarations, unique_name):
    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(lambda _: ensure_topics(local, declarations), range(4)):
            pass
    ensure_topics(local, declarations)
    assert _partitions(admin, topics.predictions(unique_name)) == 3


def test_predictions_follow_the_partitions_of_requests_that_exist(local, admin, declarations, unique_name):
    _create(admin, f"{unique_name}.requests", partitions=5)
    ensure_topics(local, declarations)
    assert _partitions(admin, f"{unique_name}.requests") == 5
    assert _partitions(admin, topics.predictions(unique_name)) == 5


def test_predictions_with_too_few_partitions_are_refused_and_nothing_is_created(
    local, admin, declarations, unique_name
):
    _create(admin, topics.predictions(unique_name), partitions=1)
    with pytest.raises(TopicsError, match="has 1 partitions and needs 3"):
        ensure_topics(local, declarations)
    assert f"{unique_name}.requests" not in admin.list_topics()


def _create(admin, name: str, partitions: int) -> None:
    new = {name: {"num_partitions": partitions, "replication_factor": 1}}
    admin.create_topics(new, wait_for_metadata=True)


def _alter(admin, name: str, **config: str) -> None:
    from kafka.admin import ConfigResource, ConfigResourceType

    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, config)])


def _partitions(admin, name: str) -> int:
    (topic,) = admin.describe_topics([name])
    return len(topic["partitions"])


def _config(admin, name: str) -> dict[str, str]:
    from kafka.admin import ConfigResource, ConfigResourceType

    described = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)], config_filter="all")
    return {key: data["value"] for key, data in described["topic"][name].items()}


def test_outcomes_grow_with_their_labels(local, admin, declarations, unique_name):
    ensure_topics(local, declarations)
    admin.create_partitions({f"{unique_name}.labels": 5})
    until(lambda: partition_counts(local)[f"{unique_name}.labels"] == 5, "the labels have grown")
    ensure_topics(local, declarations)
    until(lambda: partition_counts(local)[topics.outcomes(unique_name)] == 5, "the outcomes follow")
