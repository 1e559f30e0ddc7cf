"""From predictions and outcomes on Kafka to a promoted model, and to a refused one, on real servers."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

from services.model_registry import loading, mlflow_client, model_inputs, models_topic
from services.model_registry.models_topic import MakeChanges
from services.model_registry.traffic_split import CHAMPION
from services.monitoring import inference_log
from services.retraining.retrainer import Retrainer
from services.runtime.declaration_file import DeclarationFolder, load_all
from services.runtime.settings import Settings
from streams import records, topics
from streams.feature_sets import FeatureSets
from streams.records import ModelChanged, Reference, ReferenceName, RetrainingFinished
from tests.flow.learning import DAY_MS, LAST_MS, ROWS, TRAINING, Model, World, follow
from tests.processes import Process
from tests.waiting import until

WORSE = """
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline


def estimator(categorical, numeric):
    column = ColumnTransformer([("first", "passthrough", numeric[:1])])
    return Pipeline([("column", column), ("line", LogisticRegression(C=1e-6))])
"""


class Running(NamedTuple):
    """The processes of all tests here, each test with a model of its own."""

    world: World
    models: Iterator[Model]
    archive: Process
    retraining: Process


@pytest.fixture(scope="module")
def running(kafka: str, mlflow: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with World(kafka, mlflow, tmp_path_factory.mktemp("learning")) as world:
        models = [world.model() for _ in range(6)]
        archive, retraining = world.start("archive"), world.start("retraining")
        archive.wait_ready()
        retraining.wait_ready()
        yield Running(world, iter(models), archive, retraining)


@pytest.fixture
def model(running: Running) -> Model:
    return next(running.models)


def result_of(model: Model, request: records.RetrainingRequested) -> RetrainingFinished:
    def wanted(record: records.RetrainingRecord) -> bool:
        return isinstance(record, RetrainingFinished) and record.request_id == request.request_id

    found = follow(model.settings.broker, topics.RETRAINING.name, records.RetrainingRecord, wanted)
    finished: RetrainingFinished = next(found)
    return finished


def changes_of(model: Model) -> Iterator[ModelChanged]:
    """Yield the model's changes; the topic also has names of features, and changes of other tests' models."""

    def wanted(record: Any) -> bool:
        return isinstance(record, ModelChanged) and record.model == model.name

    return follow(model.settings.broker, topics.MODELS.name, records.ModelsRecord, wanted)


def latest_change(model: Model) -> ModelChanged:
    return next(changes_of(model))


def test_first_model_is_promoted_and_a_worse_candidate_is_refused(running: Running, model: Model):
    client = mlflow_client.connect(model.settings)
    model.send_rows(model.history())

    first = result_of(model, model.request("first", trigger="bootstrap"))

    assert (first.result, first.reasons, first.rows) == ("promoted", [], ROWS)
    assert first.metrics["log_loss"] < 0.6
    change = latest_change(model)
    assert [(arm.name, arm.version, arm.effective_from_ms, arm.shadow) for arm in change.arms] == [
        ("champion", first.version, LAST_MS, False),
        ("frozen", first.version, LAST_MS, True),
    ]
    reference = change.reference
    assert reference is not None
    assert (reference.version, reference.log_loss) == (first.version, first.metrics["log_loss"])
    assert [feature.feature for feature in reference.features] == ["x", "colour", "noise"]
    assert {mlflow_client.version_of(client, model.name, alias) for alias in ("champion", "frozen")} == {
        first.version
    }
    declaration = load_all(model.settings.models)[model.name]
    loaded = loading.load(
        model.settings, declaration, model_inputs.of_model(model.settings, declaration), first.version
    )
    row = {"x": np.zeros(1), "noise": np.zeros(1), "colour": np.array(["red"], dtype=object)}
    assert 0.5 < loaded.predict(row)[0] < 1

    early = result_of(model, model.request("early", trigger="drift", at_ms=LAST_MS + DAY_MS))

    assert (early.result, early.version) == ("rejected", 0)
    assert "cooldown" in early.reasons[0]

    model.script.write_text(WORSE)
    second = result_of(model, model.request("second", trigger="drift", at_ms=LAST_MS + 3 * DAY_MS))

    assert (second.result, second.version) == ("rejected", first.version + 1)
    assert "higher than the champion's" in second.reasons[0]
    assert mlflow_client.version_of(client, model.name, CHAMPION) == first.version
    assert mlflow_client.version_of(client, model.name, mlflow_client.CHALLENGER) == second.version
    run = client.get_run(second.run_id)
    assert run.data.tags["driftline.gates"] == "; ".join(second.reasons)
    assert run.data.tags["driftline.trigger"] == "drift"
    assert run.data.metrics["champion_log_loss"] == pytest.approx(second.metrics["champion_log_loss"])
    artifacts = {artifact.path for artifact in client.list_artifacts(second.run_id)}
    assert {"plots", "run", "candidate.json", "model"} <= artifacts
    assert running.retraining.count("driftline_retrainings", result="rejected", trigger="drift") == 2


def test_second_promotion_keeps_the_outgoing_champion_until_it_takes_over(model: Model):
    model.script.write_text(WORSE)
    model.send_rows(model.history())
    first = result_of(model, model.request("first", trigger="bootstrap"))
    better_ms = LAST_MS + 3 * DAY_MS
    model.script.write_text(TRAINING)
    second = result_of(model, model.request("second", trigger="drift", at_ms=better_ms))

    assert (first.result, second.result) == ("promoted", "promoted")
    changes = changes_of(model)
    next(changes)
    arms = [(arm.name, arm.version, arm.effective_from_ms) for arm in next(changes).arms]
    assert arms == [
        ("champion", first.version, LAST_MS),
        ("champion", second.version, better_ms + DAY_MS // 4),
        ("frozen", first.version, LAST_MS),
    ]
    client = mlflow_client.connect(model.settings)
    assert mlflow_client.version_of(client, model.name, mlflow_client.PREVIOUS) == first.version


def test_error_in_training_gives_a_failed_result_and_the_process_goes_on(running: Running, model: Model):
    model.send_rows(model.history())
    sound = model.script.read_text()
    model.script.write_text("def estimator(categorical, numeric):\n    raise ValueError('no such trees')\n")

    failed = result_of(model, model.request("broken"))
    model.script.write_text(sound)
    mended = result_of(model, model.request("mended"))
    again = result_of(model, model.request("mended"))
    next_one = result_of(model, model.request("next"))

    assert (failed.result, failed.version) == ("failed", 0)
    assert failed.reasons == ["ValueError: no such trees"]
    assert (mended.result, mended.version) == ("promoted", 1)
    assert again == mended, "a request that was answered is not answered again"
    assert next_one.version == 2
    assert running.retraining.alive


def test_request_without_offsets_waits_for_what_is_on_the_topics(model: Model):
    model.send_rows(model.history())
    model.offsets = {}

    assert result_of(model, model.request("no-offsets")).rows == ROWS


class Crash(BaseException):
    """What a kill is to the process: nothing catches it."""


class Publisher:
    """Both topics in memory; a write to ``crash_at`` fails."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.crash_at: str | None = None
        self.published: list[tuple[str, ModelChanged | RetrainingFinished]] = []

    def publish_result(self, finished: RetrainingFinished, request: records.RetrainingRequested) -> None:
        assert request.request_id == finished.request_id
        self.publish(topics.RETRAINING.name, finished)

    def model_state(self, model: str) -> tuple[ModelChanged | None, FeatureSets]:
        return models_topic.read_model(self.settings, model)

    def rollouts(self, model: str) -> list[records.RolloutRecord]:
        raise AssertionError(f"a person asks for a training of {model}")

    def publish_reference(self, model: str, reference: Reference) -> ReferenceName:
        raise AssertionError(f"the reference of {model} fits into a change")

    def publish_changes(self, model: str, make: MakeChanges) -> None:
        latest = [record for _, record in self.published if isinstance(record, ModelChanged)]
        for change in make(latest[-1] if latest else None):
            self.publish(topics.MODELS.name, change)

    def publish(self, topic: str, record: ModelChanged | RetrainingFinished) -> None:
        if topic == self.crash_at:
            raise Crash
        self.published.append((topic, record))


def test_crash_after_the_registration_doubles_nothing(model: Model):
    model.send_rows(model.history(1200))
    model.request("hurry", name="nobody")  # which lets the archive hurry, and is answered with "failed"
    asked = model.request_record("crashing")
    folder = DeclarationFolder(model.settings.models)
    publisher = Publisher(model.settings)

    def retrain(crash_at: str | None) -> RetrainingFinished | None:
        retrainer = Retrainer(model.settings, folder, publisher, lambda _: {})
        publisher.crash_at = crash_at
        for _, record in publisher.published:
            if isinstance(record, RetrainingFinished):
                retrainer.history.add(record)
        return retrainer.handle(asked)

    for crash_at in (topics.MODELS.name, topics.RETRAINING.name):
        with pytest.raises(Crash):
            retrain(crash_at)
    finished = retrain(None)

    assert finished is not None
    assert (finished.result, finished.version, finished.rows) == ("promoted", 1, 1200)
    assert [topic for topic, _ in publisher.published] == [topics.MODELS.name, topics.RETRAINING.name]
    change = publisher.published[0][1]
    assert isinstance(change, ModelChanged)
    assert change.reference is not None
    assert change.reference.version == 1
    assert len(mlflow_client.connect(model.settings).search_model_versions(f"name='{model.name}'")) == 1
    assert retrain(None) is None


def test_archive_holds_each_record_once_and_answers_sql(running: Running, model: Model):
    rows = model.history(300)
    for number in range(50):
        model.send(f"{model.name}.requests", number % 4, b'{"id": "%d"}' % number)
    model.send_rows(rows)
    model.send(topics.predictions(model.name), 0, b"no JSON")
    model.send_rows(rows[-100:])  # a producer that went back
    model.request("too-few")  # does not hurry requests, which are in no training set

    def held() -> bool:
        places = [(inference_log.PREDICTIONS, topics.predictions), (inference_log.OUTCOMES, topics.outcomes)]
        for table, name in places:
            topic = name(model.name)
            if (
                list(inference_log.positions(model.settings, table, {topic: range(4)})[topic].values())
                != model.offsets[topic]
            ):
                return False
        return True

    until(held, "all is archived")
    with inference_log.connect(model.settings) as log:
        counts = log.execute(
            "SELECT count(*), count(DISTINCT prediction_id) FROM predictions "
            "JOIN outcomes USING (prediction_id) WHERE predictions.model = ?",
            [model.name],
        ).fetchone()
        events = log.execute(
            'SELECT count(*), count(DISTINCT (partition, "offset")) FROM events WHERE topic = ?',
            [f"{model.name}.requests"],
        ).fetchone()
        example = log.execute(
            "SELECT features_number, features_text FROM predictions WHERE prediction_id = ?",
            [rows[0][0].prediction_id],
        ).fetchone()
    assert counts == (300, 300)
    assert events == (50, 50)
    x, colour, noise = rows[0][0].features
    assert example == ([x, None, noise], [None, colour, None])
    assert "archive.record_invalid" in running.archive.output()


def test_processes_stop_on_sigterm(running: Running):
    assert running.archive.stop() == 0
    assert running.retraining.stop() == 0
