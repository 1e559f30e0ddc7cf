"""A request topic that is deleted and recreated: each request of the new one gets a prediction."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from kafka import KafkaConsumer, TopicPartition

from bench.scoring_job import installation
from bench.scoring_job.installation import PARTITIONS
from services.runtime import kafka_consumers
from services.runtime.settings import Settings
from streams import records, topics
from streams.repeats import RepeatFilter
from tests import own_job
from tests.processes import Process
from tests.recreation import recreate
from tests.waiting import until

FIRST = 800
_decode = msgspec.json.Decoder(records.Prediction).decode


@pytest.fixture
def installed(
    settings: Settings, unique_name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Settings:
    """A model of a name of its own, with its features, topics and a version."""
    own_job.declare(tmp_path / "models", unique_name)
    installed = own_job.install(settings, monkeypatch, tmp_path / "models")
    version = installation.register(installed, installation.train(seed=1), unique_name)
    installation.announce(installed, version, unique_name)
    return installed


@pytest.fixture
def consumer(kafka: str) -> Iterator[KafkaConsumer]:
    consumer = KafkaConsumer(bootstrap_servers=kafka, auto_offset_reset="earliest")
    yield consumer
    consumer.close()


def predicted(consumer: KafkaConsumer, model: str) -> Counter[str]:
    """Return the number of predictions of each request, without repeats, as every reader counts them."""
    partitions = [TopicPartition(topics.predictions(model), number) for number in range(PARTITIONS)]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    repeats = RepeatFilter()
    found = [_decode(record.value) for record in kafka_consumers.read_to_end(consumer, partitions)]
    return Counter(
        each.prediction_id
        for each in found
        if not repeats.is_repeat(each.source_partition, each.source_offset, each.source)
    )


@pytest.mark.parametrize("second", [200, 2000], ids=["shorter", "longer"])
@pytest.mark.parametrize("runs", [True, False], ids=["running", "stopped"])
def test_each_request_of_a_recreated_topic_is_answered(
    installed: Settings, consumer: KafkaConsumer, unique_name: str, tmp_path: Path, second: int, *, runs: bool
) -> None:
    topic = f"{unique_name}.requests"
    with Process("scoring", installed, log=tmp_path / "scoring.log") as process:
        installation.fill(installed, topic, FIRST, first=0)
        until(lambda: len(predicted(consumer, unique_name)) == FIRST, "the first are answered")
        old = set(predicted(consumer, unique_name))
        if not runs:
            assert process.stop() == 0
        recreate(installed, [topic])
        installation.fill(installed, topic, second, first=FIRST)
        if not runs:
            process.start()
        until(lambda: len(predicted(consumer, unique_name)) == FIRST + second, "all are answered")
        process.wait_ready()
        assert process.stop() == 0
    counts = predicted(consumer, unique_name)
    assert {counts[each] for each in old} == {1}
    # A process that runs may answer some before it notices that the topic is another one.
    assert set(counts.values()) <= ({1, 2} if runs else {1})
