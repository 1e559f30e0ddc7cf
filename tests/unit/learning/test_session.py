"""The order in which a learning session writes, with the learner of the other tests and topics in memory."""

import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import pytest
import structlog.testing

from services.learning import session
from services.learning.learner_state import fresh_state
from services.learning.session import (
    CHECKPOINTS,
    Announcer,
    LearningModel,
    LearningModelOpener,
    LearningSession,
)
from services.learning.version_gate import GateVerdict
from services.model_registry import learned_versions
from services.runtime.quarantine import Quarantine
from services.runtime.settings import Settings
from streams import records, topics
from streams.feature_sets import FeatureSets, feature_set
from tests.unit.learning import traffic
from tests.unit.monitoring.memory_ownership import MemoryOwnership

LOGS = traffic.traffic(8)


class Log:
    """What is written, in order: keys of versions and checkpoints, and ``arms`` for an announcement."""

    def __init__(self) -> None:
        self.entries: list[str] = []
        self.values: dict[str, bytes] = {}
        self.error: Exception | None = None

    def write(self, stage: Mapping[tuple[str, int], list[Any]]) -> None:
        if self.error is not None:
            raise self.error
        for (topic, _), batch in stage.items():
            for key, value, _ in batch:
                if topic in {topics.LEARNED.name, topics.LEARNING_STATE.name} and value is not None:
                    self.entries.append(key.decode())
                    self.values[key.decode()] = value

    def tell(self, model: str, verdicts: Sequence[GateVerdict]) -> None:
        self.entries += [f"verdict of {model} {each.version}" for each in verdicts if each.is_news]

    def find(self, model: str, version: int) -> records.LearnedModel | None:
        value = self.values.get(f"{model}/{version % learned_versions.KEYS}")
        return None if value is None else records.decoder_of(records.LearnedModel).decode(value)


class MemoryModelsTopic:
    """The models topic of which one model's changes are applied to nothing."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.feature_sets: dict[str, FeatureSets] = {}
        self.unread: list[records.FeatureSet] = []
        self.latest: dict[str, records.ModelChanged] = {}

    def refresh(self) -> None:
        for each in self.unread:
            self.feature_sets.setdefault(each.model, FeatureSets()).learn(each)
        self.unread = []

    def publish_on_latest(
        self, model: str, lacking: Callable[[records.ModelChanged | None], list[records.ModelChanged]]
    ) -> list[records.ModelChanged]:
        if changes := lacking(self.latest.get(model)):
            self.log.entries.append("arms")
            self.latest[model] = changes[-1]
        return changes


def no_large_reference(model: str, reference: records.Reference) -> records.ReferenceName:
    raise AssertionError(f"the reference of {model} fits into a change: {reference.version}")


class OneModel:
    """One open model, whose traffic is read in one go."""

    def __init__(self, model: LearningModel) -> None:
        self.model = model
        self.reopened: list[str] = []

    def refresh(self) -> None:
        pass

    def keep_due(self) -> None:
        pass

    def __iter__(self) -> Iterator[LearningModel]:
        return iter([] if self.reopened else [self.model])

    def read(self) -> bool:
        for place, log in traffic.Player(LOGS).logs.items():
            for offset, record in enumerate(log):
                traffic.feed(self.model.learner, place, offset, record)
        return True

    def reopen(self, name: str) -> None:
        self.reopened.append(name)

    def attempt(self, name: str, work: Callable[[LearningModel], None], model: LearningModel) -> None:
        assert name == model.name
        work(model)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def models_topic(log: Log) -> Any:
    return MemoryModelsTopic(log)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> LearningModel:
    monkeypatch.setattr(session, "make_learner", lambda *given: traffic.new_learner())
    decoder: Any = types.SimpleNamespace()  # nothing is decoded
    return LearningModel(
        Settings(), traffic.declaration(), fresh_state("m", 2, 2), FeatureSets(), lambda sink: decoder
    )


@pytest.fixture
def learning(log: Log, models_topic: Any, model: LearningModel) -> Any:
    reader = types.SimpleNamespace(pause_leading_partitions=lambda: None)
    redis = types.SimpleNamespace(hset=lambda *given: None)
    features = types.SimpleNamespace(changed=lambda _: [])
    announcer = Announcer(models_topic, no_large_reference)
    given: tuple[Any, ...] = (log, redis, OneModel(model), reader, announcer, features, log.tell, log.find)
    return LearningSession(*given)


def test_a_version_is_written_before_the_arms_refer_to_it(learning: Any, log: Log) -> None:
    learning.step()
    assert log.entries[-1] == "arms"
    assert log.entries[-2] == "verdict of m 1"
    versions = log.entries[:-2]
    assert versions
    assert all(each.startswith("m/") for each in versions)


def test_the_watermark_waits_until_all_results_are_acknowledged(
    learning: Any, log: Log, model: LearningModel
) -> None:
    log.error = OSError("the broker is away")
    with pytest.raises(OSError, match="is away"):
        learning.step()
    assert model.watermark_ms is None


def test_the_watermark_follows_the_learner(learning: Any, model: LearningModel) -> None:
    learning.step()
    assert model.watermark_ms == model.learner.watermark_ms
    assert model.watermark_ms is not None


def test_a_checkpoint_is_written_after_the_arms_and_restores_the_learner(
    learning: Any, log: Log, models_topic: Any, model: LearningModel
) -> None:
    learning.step()
    models_topic.latest.clear()  # somebody has overwritten the arms
    log.entries.clear()
    outbox: Any = log
    opener = LearningModelOpener(
        Settings(),
        Quarantine("learning"),
        outbox,
        cast("Any", MemoryOwnership()),
        Announcer(models_topic, no_large_reference),
        outbox,
    )
    opener.keep(model)
    assert log.entries == ["arms", "m"]
    state = CHECKPOINTS.decode(log.values["m"], "m", "m.labels")
    assert state.counts == model.learner.counts


def test_names_of_features_are_read_when_a_prediction_refers_to_unknown_ones(
    models_topic: Any, model: LearningModel
) -> None:
    published = feature_set("m", traffic.NAMES, ["colour"])
    announcer = Announcer(models_topic, no_large_reference)
    models_topic.feature_sets["m"] = model.learner.feature_sets
    models_topic.unread = [published]
    announcer.learn_names(model)
    assert models_topic.unread == [published]  # no prediction asks for names
    model.learner.feature_sets.note(published.digest)
    announcer.learn_names(model)
    assert announcer.names_of("m").names(published.digest) == traffic.NAMES


def test_names_that_are_nowhere_are_told_once_and_given_up(models_topic: Any, model: LearningModel) -> None:
    model.learner.feature_sets.note("nowhere")
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            Announcer(models_topic, no_large_reference).learn_names(model)
    assert [(each["event"], each["feature_sets"]) for each in logs] == [
        ("learning.names_missing", ["nowhere"])
    ]


def test_nothing_that_was_read_is_learned_before_a_model_with_changed_features_is_reopened(
    learning: Any, log: Log, model: LearningModel
) -> None:
    learning._features.changed = lambda models: [each.name for each in models]
    learning.step()
    assert learning._models.reopened == ["m"]
    assert (log.entries, model.learner.totals.predictions) == ([], 0)
