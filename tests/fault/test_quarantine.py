"""One bad record of one model on a real broker: it alone is rejected, and every model reaches the end."""

import asyncio
import contextlib
import functools
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.drift import session as drift_session
from services.drift.engine import Engine
from services.drift.evaluator import Evaluator
from services.drift.monitored_model import SNAPSHOTS
from services.feature_store import plan_cache
from services.feature_store.plan import FeaturePlan
from services.learning import session as learning_session
from services.learning.learner import Learner
from services.runtime import blocking_process, kafka_consumers
from services.runtime.declaration_file import DeclarationFolder, load_all
from services.runtime.quarantine import Quarantine
from services.runtime.settings import Settings
from services.runtime.topic_creation import ensure_topics
from streams import records, topics
from streams.inputs import PREDICTION, Resume
from streams.producer import BatchProducer
from tests.flow.drift_topics import PARTITIONS, DriftTopics
from tests.snapshots import snapshots_of
from tests.unit.drift import scenario
from tests.unit.learning import traffic
from tests.waiting import LIVENESS_SECONDS, until

HOURS = 12
TRAINING = """
from river import linear_model, compose

def learner(categorical, numeric):
    return compose.Select("x") | linear_model.LinearRegression()
"""


@contextlib.contextmanager
def running(settings: Settings, opened: Any, quarantine: Quarantine) -> Iterator[Callable[[], None]]:
    """Run a process in a thread of the test, which may change its code; yield a check that it still runs."""
    stopping = threading.Event()
    folder = DeclarationFolder(settings.models)
    process = blocking_process.Process(functools.partial(opened, settings, folder, quarantine), stopping)
    thread = threading.Thread(target=process.run)
    thread.start()

    def check() -> None:
        assert thread.is_alive()

    try:
        yield check
    finally:
        stopping.set()
        thread.join(LIVENESS_SECONDS)


def ends(settings: Settings, topic: str) -> list[int]:
    with contextlib.closing(kafka_consumers.connect(settings, "test")) as consumer:
        return kafka_consumers.end_offsets(consumer, topic)


def is_at_end(settings: Settings, name: str, state: Any) -> bool:
    wanted = ends(settings, topics.predictions(name)), ends(settings, f"{name}.labels")
    return state is not None and wanted == tuple(
        [at.offset for at in each] for each in (state.predictions, state.labels)
    )


def letters(settings: Settings, *names: str) -> list[records.DeadLetter]:
    decode = records.decoder_of(records.DeadLetter).decode
    found = kafka_consumers.read_topic(settings, "test", topics.DEAD_LETTERS.name)
    mine = {topic for name in names for topic in (topics.predictions(name), f"{name}.labels")}
    decoded = [decode(message.value) for message in found if message.value is not None]
    return [letter for letter in decoded if letter.topic in mine]


def test_drift_rejects_a_prediction_and_a_label_of_one_model_and_everything_else_goes_on(
    kafka: str, valkey: str, unique_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings().model_copy(update={"broker": kafka, "redis_url": valkey})
    bad, good = f"{unique_name}a", f"{unique_name}b"
    streams = {name: DriftTopics(settings, name, tmp_path) for name in (bad, good)}
    settings = streams[good].settings
    logs = {name: scenario.traffic(HOURS, seed=3, a_hour=300, name=name) for name in streams}
    expected = scenario.play(scenario.new_engine(scenario.declaration(good), PARTITIONS), logs[good])
    add_rows, process_joined = Evaluator.add_rows, Engine._process_joined

    def bad_rows(self: Any, rows: Any, *args: Any) -> None:
        add_rows(self, rows, *args)
        if any((row.model, row.prediction_id) == (bad, "p500") for row in rows.predictions):
            raise OverflowError("a number of 400 digits")

    def bad_label(self: Any, index: int, joined: Any, *args: Any) -> None:
        process_joined(self, index, joined, *args)
        if (self.model, joined.label.prediction_id) == (bad, "p900"):
            raise KeyError("p900")

    monkeypatch.setattr(Evaluator, "add_rows", bad_rows)
    monkeypatch.setattr(Engine, "_process_joined", bad_label)
    for name, stream in streams.items():
        stream.send_model()
        for kind, partitions in ((PREDICTION, logs[name].predictions), (1, logs[name].labels)):
            for partition, log in enumerate(partitions):
                stream.send(kind, partition, log)

    def state(name: str) -> Any:
        found = snapshots_of(settings, topics.DRIFT_STATE.name, name)
        return SNAPSHOTS.decode(found[-1], name, f"{name}.labels") if found else None

    quarantine = Quarantine("drift")
    with running(settings, drift_session.open_session, quarantine) as check:
        for name in (good, bad):
            reaches = functools.partial(lambda name: is_at_end(settings, name, state(name)), name)
            until(reaches, f"{name} has no lag", check=check)
    found = letters(settings, bad, good)
    assert {(letter.topic, letter.kind) for letter in found} == {
        (topics.predictions(bad), "defect"),
        (f"{bad}.labels", "defect"),
    }
    assert len(found) == 2, "one letter each"
    assert sorted(letter.reason.split(" at ")[0] for letter in found) == [
        "defect: KeyError: 'p900'",
        "defect: OverflowError: a number of 400 digits",
    ]
    assert streams[good].outcomes() == expected.outcomes
    assert streams[good].drift() == expected.drift
    assert quarantine.detail().keys() == {"models"}


def test_learning_rejects_a_label_of_one_model_and_both_models_learn_everything_else(
    kafka: str, valkey: str, unique_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = f"{unique_name}a", f"{unique_name}b"
    settings = learning_settings(kafka, valkey, tmp_path, bad, good)
    process = Learner._process

    def bad_item(self: Any, item: Any) -> None:
        process(self, item)
        if (self.model, item.kind, item.id) == (bad, 1, "p700"):
            raise KeyError("p700")

    monkeypatch.setattr(Learner, "_process", bad_item)
    for name in (bad, good):
        send(settings, name, traffic.traffic(HOURS, seed=3, a_hour=100, name=name))

    def state(name: str) -> Any:
        found = snapshots_of(settings, topics.LEARNING_STATE.name, name)
        return learning_session.CHECKPOINTS.decode(found[-1], name, f"{name}.labels") if found else None

    quarantine = Quarantine("learning")
    with running(settings, learning_session.opened, quarantine) as check:
        for name in (good, bad):
            reaches = functools.partial(lambda name: is_at_end(settings, name, state(name)), name)
            until(reaches, f"{name} has no lag", check=check)
    (letter,) = letters(settings, bad, good)
    assert (letter.topic, letter.kind, letter.service) == (f"{bad}.labels", "defect", "learning")
    assert json.loads(letter.value or b"")["id"] == "p700"
    assert state(bad).counts.learned == state(good).counts.learned - 1 > 0
    assert [type(at) for at in state(bad).labels] == [Resume] * PARTITIONS


def learning_settings(kafka: str, valkey: str, folder: Path, *names: str) -> Settings:
    for name in names:
        path = folder / "models" / name
        path.mkdir(parents=True)
        (path / "model.yaml").write_text(traffic.as_yaml(name))
        (path / "training.py").write_text(TRAINING)
    settings = Settings().model_copy(
        update={
            "broker": kafka,
            "redis_url": valkey,
            "home": folder / "home",
            "models": folder / "models",
            "partitions": PARTITIONS,
        }
    )
    registry = plan_cache.registry_path(settings)
    registry.parent.mkdir()
    registry.touch()
    plan_cache.store(settings, FeaturePlan(project="p", views=(), services={"s": ()}))
    ensure_topics(settings, load_all(settings.models))
    return settings


def send(settings: Settings, name: str, logs: traffic.Traffic) -> None:
    async def write() -> None:
        producer = BatchProducer(settings.kafka_options())
        async with producer.running():
            for place, log in traffic.Player(logs).logs.items():
                topic = topics.predictions(name) if place.kind == PREDICTION else f"{name}.labels"
                await producer.send(topic, place.partition, [traffic.kafka_record(each) for each in log])

    asyncio.run(write())
