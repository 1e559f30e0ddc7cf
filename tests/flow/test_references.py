"""Registered models of every task, and one that learns online, from the reference to alarms."""

import datetime as dt
import functools
import json
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import redis

from services.feature_store import plan_cache
from services.feature_store.plan import FeaturePlan
from services.model_registry import models_topic
from services.operations.models import arms_command, versions_command
from services.runtime.declaration_file import load_all
from services.runtime.settings import Settings
from services.runtime.topic_creation import ensure_topics
from streams import records
from streams.inputs import LABEL, PREDICTION
from tests.flow.drift_topics import DriftTopics
from tests.marks import read_marks
from tests.processes import Process
from tests.unit.drift import scenario
from tests.unit.drift.scenario import HOUR_MS, START_MS, Entry
from tests.waiting import until

CLASSES = ("low", "middle", "high")
A_HOUR = 300
CALM_HOURS, CHANGED_HOURS = 5, 8
SHIFT = 1.5
EVERY_HOURS, AFTER_HOURS = 2, 3
LEARNER = """
from river import compose, linear_model, optim, preprocessing

def learner(categorical, numeric):
    numbers = compose.Discard("colour") | preprocessing.StandardScaler()
    return numbers | linear_model.LinearRegression(optim.SGD(0.01))
"""


@pytest.fixture
def local(
    kafka: str, valkey: str, mlflow: str, http_ports: dict[str, int], tmp_path: Path, monkeypatch: Any
) -> Settings:
    """Servers, an empty feature service, and the settings in the environment."""
    changes = {
        "broker": kafka, "redis_url": valkey, "mlflow_uri": mlflow, "home": tmp_path / "home",
        "models": tmp_path / "models", "partitions": 1, **http_ports,
    }  # fmt: skip
    settings = Settings().model_copy(update=changes)
    registry = plan_cache.registry_path(settings)
    registry.parent.mkdir(parents=True)
    registry.touch()  # nothing is asked of Feast: what the service holds is in the plan
    plan_cache.store(settings, FeaturePlan(project="p", views=(), services={"s": ()}))
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    return settings


class Modelled:
    """One declared model with the traffic that it gets."""

    def __init__(self, settings: Settings, name: str, task: str, folder: Path, **changes: Any) -> None:
        self.name, self.task, self.folder = name, task, folder
        self.settings = settings
        document = scenario.document(name) | {"task": task} | changes
        if task != "binary":
            document |= {"gates": None}
            document["label"] |= {"positive_above": None}
        if task == "multiclass":
            document |= {"classes": list(CLASSES)}
            document["label"]["schema"] |= {"y": "string"}
        path = settings.models / name / "model.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(document))  # JSON is YAML
        self.document = document
        self.chance = np.random.default_rng(1)

    def rows(self, count: int, *, shift: float = 0.0) -> pd.DataFrame:
        colours = self.chance.choice(scenario.COLOURS, size=count)
        return pd.DataFrame({"x": self.chance.normal(size=count) + shift, "colour": colours})

    def labels(self, x: Any) -> Any:
        """What the label topic says: of a class with the chance of its score, or the doubled value."""
        if self.task == "regression":
            return 2 * x + self.chance.normal(size=len(x))
        noisy = x + self.chance.logistic(size=len(x))
        if self.task == "binary":
            return np.where(noisy > 0, 30.0, 0.0)
        return np.array(CLASSES)[(noisy > -1).astype(int) + (noisy > 1)]

    def register(self) -> Any:
        """Fit a model elsewhere, register it with a reference, and make it the champion."""
        from sklearn.linear_model import LinearRegression, LogisticRegression

        train, known = self.rows(2000), self.rows(3000)
        labels = self.labels(train["x"].to_numpy())
        fitted = (
            LinearRegression().fit(train[["x"]], labels)
            if self.task == "regression"
            else LogisticRegression().fit(
                train[["x"]], (labels > 15).astype(int) if self.task == "binary" else labels
            )
        )
        joblib.dump(fitted, self.folder / "model.joblib")
        train[["x"]].to_parquet(self.folder / "proof.parquet")
        times = [_utc(START_MS - number * HOUR_MS // A_HOUR) for number in range(len(known), 0, -1)]
        known = known.assign(y=self.labels(known["x"].to_numpy()), at=times)
        known.to_parquet(self.folder / "known.parquet")
        versions_command.register(
            self.name,
            model_uri=str(self.folder / "model.joblib"),
            rows=self.folder / "proof.parquet",
            reference=self.folder / "known.parquet",
            allow_pickle=True,
        )
        arms_command.champion(self.name, version=1)
        return fitted

    def answers(self, fitted: Any, x: Any) -> list[dict[str, Any]]:
        """What scoring would answer."""
        given = pd.DataFrame({"x": x})
        if self.task == "regression":
            return [{"score": value, "prediction": value} for value in fitted.predict(given).tolist()]
        outputs = fitted.predict_proba(given)
        if self.task == "binary":
            return [{"score": one, "prediction": int(one >= 0.5)} for one in outputs[:, 1].tolist()]
        order = [list(fitted.classes_).index(name) for name in CLASSES]
        return [
            {"score": max(each), "prediction": CLASSES[each.index(max(each))], "probabilities": each}
            for each in outputs[:, order].tolist()
        ]

    def label_entries(self, first: int, labels: Any) -> list[Entry]:
        values = [str(each) if self.task == "multiclass" else float(each) for each in labels]
        return [Entry(0, _label(number, value)) for number, value in enumerate(values, first)]


def _label(number: int, value: str | float) -> bytes:
    moment = _utc(_time_ms(number) + HOUR_MS // 2)
    return json.dumps({"id": f"p{number}", "at": moment, "y": value}).encode()


def _time_ms(number: int) -> int:
    return START_MS + number * HOUR_MS // A_HOUR


def _utc(time_ms: int) -> str:
    return dt.datetime.fromtimestamp(time_ms / 1000, dt.UTC).isoformat()


def _is_learned(client: Any, name: str, until_ms: int) -> bool:
    mark = f"learning.{name}"
    return (read_marks(client, [mark])[mark] or 0) >= until_ms


def topics_of(model: Modelled) -> DriftTopics:
    return DriftTopics.of_declared(model.settings, model.name)


def alarms(written: DriftTopics) -> set[tuple[str, str]]:
    return {(each.kind, each.subject) for each in written.drift() if isinstance(each, records.DriftAlarm)}


def test_registered_models_of_every_task_are_watched(
    local: Settings, unique_name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Calm hours, then another population whose labels no longer follow the model."""
    losses = {"binary": "log_loss", "multiclass": "log_loss", "regression": "absolute_error"}
    models = {}
    for task in losses:
        folder = tmp_path / task
        folder.mkdir()
        models[task] = Modelled(local, f"{unique_name}_{task}", task, folder)
    ensure_topics(local, load_all(local.models))
    count = (CALM_HOURS + CHANGED_HOURS) * A_HOUR
    calm = CALM_HOURS * A_HOUR
    with Process("drift", local, log=tmp_path / "drift.log") as drift:
        for model in models.values():
            fitted = model.register()
            shown = capsys.readouterr().out
            assert "reference: 3,000 rows, 2 features" in shown
            assert "no reference" not in shown
            frame = pd.concat([model.rows(calm), model.rows(count - calm, shift=SHIFT)])
            labels = model.labels(frame["x"].to_numpy())
            labels[calm:] = model.labels(-3 * frame["x"].to_numpy()[calm:])
            answers = model.answers(fitted, frame["x"].to_numpy())
            predictions = [
                scenario.prediction(
                    number, _time_ms(number), model=model.name, shadow_scores={},
                    features=[float(x), str(colour)], **answers[number],
                )
                for number, (x, colour) in enumerate(frame.itertuples(index=False))
            ]  # fmt: skip
            written = topics_of(model)
            end_ms = _time_ms(count) + 5 * HOUR_MS
            written.send(PREDICTION, 0, scenario.numbered([*predictions, end_ms]))
            written.send(LABEL, 0, [*model.label_entries(0, labels), Entry(0, end_ms)])
        for task, model in models.items():
            written = topics_of(model)
            written.wait_for_watermark(end_ms - HOUR_MS, drift.check)
            found = alarms(written)
            assert found >= {("feature", "x"), ("score", "score"), ("loss", losses[task])}
            if task == "multiclass":
                assert ("score", "prediction") in found
            early = [each for each in written.drift() if isinstance(each, records.DriftReport)][1]
            assert (early.has_reference, [each.feature for each in early.features]) == (True, ["x", "colour"])
            assert bool(written.requests()) == (task == "binary"), "only binary models may declare gates"
        assert drift.stop() == 0


def test_model_that_learns_online_is_watched_from_its_reference_on(
    local: Settings, unique_name: str, tmp_path: Path
) -> None:
    """Each piece is answered by the versions that were published before it, as scoring does."""
    learning = {
        "every_hours": EVERY_HOURS, "effective_after_hours": AFTER_HOURS, "minimum_labels": 50,
        "reference": {"rows": 300},
    }  # fmt: skip
    model = Modelled(local, unique_name, "regression", tmp_path, learning=learning)
    model.document["label"]["horizon_hours"] = 1
    (local.models / unique_name / "model.yaml").write_text(json.dumps(model.document))
    (local.models / unique_name / "training.py").write_text(LEARNER)
    ensure_topics(local, load_all(local.models))
    written, client = topics_of(model), redis.Redis.from_url(local.redis_url)
    first_ms = START_MS // (EVERY_HOURS * HOUR_MS) * EVERY_HOURS * HOUR_MS
    change_ms, end_ms = first_ms + 15 * HOUR_MS, first_ms + 24 * HOUR_MS
    with (
        Process("learning", local, log=tmp_path / "learning.log") as learner,
        Process("drift", local, log=tmp_path / "drift.log") as drift,
    ):
        number = 0
        for start_ms in range(first_ms, end_ms, EVERY_HOURS * HOUR_MS):
            predictions, labels = [], []
            first = number
            while _time_ms(number) < start_ms + EVERY_HOURS * HOUR_MS:
                time_ms = _time_ms(number)
                is_changed = time_ms >= change_ms
                row = model.rows(1, shift=SHIFT if is_changed else 0.0)
                x = float(row["x"].iloc[0])
                version = max((time_ms - first_ms - AFTER_HOURS * HOUR_MS) // (EVERY_HOURS * HOUR_MS), 0)
                score = 2 * x if version else None
                predictions.append(
                    scenario.prediction(
                        number, time_ms, model=model.name, shadow_scores={}, version=version,
                        features=[x, str(row["colour"].iloc[0])], score=score, prediction=score,
                    )
                )  # fmt: skip
                labels.append(-6 * x if is_changed else 2 * x + float(model.chance.normal()))
                number += 1
            written.send(PREDICTION, 0, scenario.numbered([*predictions, start_ms + EVERY_HOURS * HOUR_MS]))
            heartbeat = Entry(0, start_ms + EVERY_HOURS * HOUR_MS)
            written.send(LABEL, 0, [*model.label_entries(first, np.array(labels)), heartbeat])
            wanted_ms = start_ms + EVERY_HOURS * HOUR_MS - 1
            is_learned = functools.partial(_is_learned, client, model.name, wanted_ms)
            until(is_learned, "the interval is learned", check=learner.check)
        for kind in (PREDICTION, LABEL):
            written.send(kind, 0, [Entry(0, end_ms + 3 * HOUR_MS)])
        written.wait_for_watermark(end_ms + 2 * HOUR_MS, drift.check)
        assert learner.stop() == 0
        assert drift.stop() == 0

    reference = models_topic.read(local)[model.name].reference
    assert reference is not None
    assert sum(reference.score_sums["labels"]) == 300
    reports = [each for each in written.drift() if isinstance(each, records.DriftReport)]
    assert [each.has_reference for each in reports if each.version] == [
        each.version >= reference.version for each in reports if each.version
    ]
    assert {("feature", "x"), ("score", "score"), ("loss", "absolute_error")} <= alarms(written)
    assert written.requests() == [], "it learns instead"
