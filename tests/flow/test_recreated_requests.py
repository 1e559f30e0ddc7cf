"""A request topic that is deleted and recreated: each request of the new one gets a prediction."""

import uuid
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

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
RUNNING, STOPPED = "running", "stopped"
SECOND = {"shorter": 200, "longer": 2000}
"""Number of requests in the new topic, which then ends before the old one did, or after it."""
_decode = msgspec.json.Decoder(records.Prediction).decode


class Recreated(NamedTuple):
    """A model whose request topic is recreated while the process is running or stopped."""

    name: str
    when: str
    second: int
    """Number of requests in the new topic."""


@pytest.fixture(scope="module")
def models() -> list[Recreated]:
    """Four models, for each case one."""
    mark = uuid.uuid4().hex[:12]
    return [
        Recreated(f"t{mark}_{when}_{length}", when, second)
        for when in (RUNNING, STOPPED)
        for length, second in SECOND.items()
    ]


@pytest.fixture(scope="module")
def installed(
    kafka: str,
    valkey: str,
    mlflow: str,
    http_ports: dict[str, int],
    models: list[Recreated],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Settings]:
    """The four models, with their features, topics and versions."""
    folder = tmp_path_factory.mktemp("recreated")
    changes = {"broker": kafka, "redis_url": valkey, "mlflow_uri": mlflow, "home": folder / "home"}
    settings = Settings().model_copy(update={**changes, **http_ports})
    for model in models:
        own_job.declare(folder / "models", model.name)
    with pytest.MonkeyPatch.context() as patch:
        installed = own_job.install(settings, patch, folder / "models")
        estimator = installation.train(seed=1)
        for model in models:
            version = installation.register(installed, estimator, model.name)
            installation.announce(installed, version, model.name)
        yield installed


def topic(model: Recreated) -> str:
    return f"{model.name}.requests"


class Answers:
    """Counts the predictions of each request, without repeats, as every reader counts them."""

    def __init__(self, consumer: KafkaConsumer, models: list[Recreated]) -> None:
        self._consumer = consumer
        self._model_of = {topics.predictions(model.name): model.name for model in models}
        self._partitions = [
            TopicPartition(name, number) for name in self._model_of for number in range(PARTITIONS)
        ]
        self._repeats = {model.name: RepeatFilter() for model in models}
        self._counts = {model.name: Counter[str]() for model in models}
        consumer.assign(self._partitions)
        consumer.seek_to_beginning(*self._partitions)

    def of(self, model: Recreated) -> Counter[str]:
        """Read what is new; return the numbers of predictions of a model by request."""
        for record in kafka_consumers.read_to_end(self._consumer, self._partitions):
            name, found = self._model_of[record.topic], _decode(record.value)
            if not self._repeats[name].is_repeat(found.source_partition, found.source_offset, found.source):
                self._counts[name][found.prediction_id] += 1
        return self._counts[model.name]


@pytest.fixture(scope="module")
def answers(kafka: str, installed: Settings, models: list[Recreated]) -> Iterator[Answers]:
    consumer = KafkaConsumer(bootstrap_servers=kafka, auto_offset_reset="earliest")
    yield Answers(consumer, models)
    consumer.close()


@pytest.fixture(scope="module")
def old(
    installed: Settings,
    answers: Answers,
    models: list[Recreated],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, set[str]]:
    """Recreate all topics, two of them while the process is stopped; return the first requests by model."""

    def await_answers(model: Recreated, count: int) -> None:
        until(lambda: len(answers.of(model)) == count, f"{model.name}: {count} are answered")

    def renew(when: str) -> list[Recreated]:
        some = [model for model in models if model.when == when]
        recreate(installed, [topic(model) for model in some])
        for model in some:
            installation.fill(installed, topic(model), model.second, first=FIRST)
        return some

    log = tmp_path_factory.mktemp("log") / "scoring.log"
    with Process("scoring", installed, log=log) as process:
        for model in models:
            installation.fill(installed, topic(model), FIRST, first=0)
        for model in models:
            await_answers(model, FIRST)
        old = {model.name: set(answers.of(model)) for model in models}
        for model in renew(RUNNING):
            await_answers(model, FIRST + model.second)
        assert process.stop() == 0
        stopped = renew(STOPPED)
        process.start()
        for model in stopped:
            await_answers(model, FIRST + model.second)
        process.wait_ready()
        assert process.stop() == 0
    return old


@pytest.mark.parametrize("second", SECOND.values(), ids=SECOND)
@pytest.mark.parametrize("when", [RUNNING, STOPPED])
def test_each_request_of_a_recreated_topic_is_answered(
    old: dict[str, set[str]], answers: Answers, models: list[Recreated], when: str, second: int
) -> None:
    (model,) = [each for each in models if (each.when, each.second) == (when, second)]
    counts = answers.of(model)
    assert len(counts) == FIRST + second
    assert {counts[each] for each in old[model.name]} == {1}
    # A process that runs may answer some before it notices that the topic is another one.
    assert set(counts.values()) <= ({1, 2} if when == RUNNING else {1})
