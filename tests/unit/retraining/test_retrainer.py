"""A request has one result, and no result of a training is lost or published twice."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self, cast

import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from services.feature_store.plan import ServicePlan
from services.model_registry import input_format, mlflow_client, model_inputs, registration
from services.model_registry.models_topic import MakeChanges
from services.retraining import mlflow_run, run_folder
from services.retraining.retrainer import Retrainer
from services.retraining.run_folder import RunFolder
from services.retraining.steps import model_steps
from services.runtime.declaration import DAY_MS, ModelDeclaration, Rollout
from services.runtime.settings import Settings
from streams import feature_sets
from streams.feature_sets import FeatureSets
from streams.records import (
    Arm,
    FeatureValue,
    ModelChanged,
    Reference,
    ReferenceName,
    RetrainingFinished,
    RetrainingRequested,
    RolloutRecord,
    RolloutStepped,
)
from tests.unit.retraining.archived_rows import MODEL, archive, outcome, prediction
from tests.unit.retraining.training_data import DECLARATION, NOW_MS, request


class Publisher:
    """Both topics in memory."""

    def __init__(self) -> None:
        self.results: list[RetrainingFinished] = []
        self.changed: list[str] = []
        self.latest: ModelChanged | None = None
        self.sets = FeatureSets()
        self.rollout_records: list[RolloutRecord] = []

    def rollouts(self, model: str) -> list[RolloutRecord]:
        return [each for each in self.rollout_records if each.model == model]

    def publish_result(self, finished: RetrainingFinished, request: RetrainingRequested) -> None:
        assert request.request_id == finished.request_id
        self.results.append(finished)

    def model_state(self, model: str) -> tuple[ModelChanged | None, FeatureSets]:
        return self.latest, self.sets

    def publish_reference(self, model: str, reference: Reference) -> ReferenceName:
        raise AssertionError(f"the reference of {model} fits into a change")

    def publish_changes(self, model: str, make: MakeChanges) -> None:
        self.changed.append(model)


@pytest.fixture
def publisher() -> Publisher:
    return Publisher()


def no_ends(topics: Sequence[str]) -> dict[str, list[int]]:
    return {topic: [] for topic in topics}


def retrainer(publisher: Publisher, settings: Settings | None = None, **changes: object) -> Retrainer:
    declaration = DECLARATION.model_copy(update=changes)
    folder = SimpleNamespace(valid={declaration.name: declaration}, faults={})
    return Retrainer(settings or Settings(), cast("Any", folder), publisher, no_ends)


def finished(asked: RetrainingRequested) -> RetrainingFinished:
    return RetrainingFinished(
        request_id=asked.request_id, model=asked.model, trigger=asked.trigger, result="promoted",
        requested_at_ms=asked.requested_at_ms, version=1,
    )  # fmt: skip


def test_request_with_a_result_is_not_handled_again(publisher: Publisher) -> None:
    subject = retrainer(publisher)
    subject.history.add(finished(request("r1")))
    assert subject.handle(request("r1")) is None
    assert publisher.results == []


def test_request_for_an_unknown_model_fails_with_the_known_ones(publisher: Publisher) -> None:
    unknown = RetrainingRequested(
        request_id="r", model="nobody", trigger="manual", requested_at_ms=0, reason="r"
    )
    result = retrainer(publisher).handle(unknown)
    assert result is not None
    assert (result.result, result.version) == ("failed", 0)
    assert result.reasons == ["there is no model 'nobody'; declared models: arrival_delay"]
    assert publisher.results == [result]


def test_a_request_waits_for_a_valid_declaration_and_its_feature_service(
    publisher: Publisher, tmp_path: Path
) -> None:
    declared = DECLARATION
    folder = SimpleNamespace(valid={}, faults={declared.name: "line 7"})
    subject = Retrainer(Settings(home=tmp_path), cast("Any", folder), publisher, no_ends)
    assert subject.wait_reason(request()) == "its model.yaml is invalid: line 7"
    folder.valid[declared.name] = declared  # it was valid before: that declaration is in use
    assert "there is no Feast registry" in str(subject.wait_reason(request()))
    folder.valid, folder.faults = {}, {}
    assert subject.wait_reason(request()) is None


def test_model_without_gates_is_not_retrained(publisher: Publisher) -> None:
    result = retrainer(publisher, gates=None).handle(request())
    assert result is not None
    assert "has no section gates" in result.reasons[0]


def test_cooldown_is_a_rejection_without_a_version(publisher: Publisher) -> None:
    subject = retrainer(publisher)
    subject.history.add(finished(request("r1")))
    result = subject.handle(request("r2"))
    assert result is not None
    assert (result.result, result.version) == ("rejected", 0)
    assert "cooldown" in result.reasons[0]
    assert publisher.changed == []


def test_automatic_request_while_a_version_is_on_trial_is_a_rejection_without_a_version(
    publisher: Publisher,
) -> None:
    rollout = Rollout.model_validate(
        {"steps": [{"share": "10%", "maximum_hours": 40}], "guardrails": {"loss": {"margin": 0.1}}}
    )
    step = RolloutStepped(
        rollout_id="by hand", model=DECLARATION.name, version=4, champion=3, step=0, share=1000, at_ms=NOW_MS,
        reason="", arms_before="", arms_after="",
    )  # fmt: skip
    publisher.rollout_records.append(step)
    subject = retrainer(publisher, rollout=rollout)
    result = subject.handle(request("r1"))
    assert result is not None
    assert (result.result, result.version) == ("rejected", 0)
    assert result.reasons[0].startswith("version 4 is on trial")
    assert retrainer(publisher).trial_refusal(request("r1"), DECLARATION) is None, "it has no rollout.steps"
    declared = DECLARATION.model_copy(update={"rollout": rollout})
    assert subject.trial_refusal(request("r2", trigger="manual"), declared) is None, "people need not wait"


def test_result_is_known_from_then_on(publisher: Publisher) -> None:
    subject = retrainer(publisher, gates=None)
    assert subject.handle(request("r1")) is not None
    assert subject.handle(request("r1")) is None
    assert len(publisher.results) == 1


def test_an_outage_of_the_registry_is_no_result(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def connect(settings: Settings) -> None:
        raise ConnectionRefusedError("MLflow")

    monkeypatch.setattr(mlflow_client, "connect", connect)
    monkeypatch.setattr(model_inputs, "of_model", lambda *_: {})
    monkeypatch.setattr(model_inputs, "definitions_of_model", lambda *_: {})
    subject = retrainer(publisher, Settings(home=tmp_path))
    with pytest.raises(ConnectionRefusedError):
        subject.handle(request("r1"))
    assert publisher.results == []
    assert not subject.history.is_finished("r1")


@pytest.mark.parametrize(
    ("steps", "reasons", "result"),
    [
        ([], [], "promoted"),
        ([], ["too large a loss"], "rejected"),
        ([{"share": "100%"}], [], "passed"),
        ([{"share": "100%"}], ["too large a loss"], "rejected"),
    ],
)
def test_arms_are_left_to_the_rollout_if_one_is_declared(
    publisher: Publisher, steps: list[dict[str, str]], reasons: list[str], result: str
) -> None:
    subject = retrainer(publisher, rollout=Rollout.model_validate({"steps": steps}))
    empty = Reference(version=3, features=[], score=None, log_loss=0.5)
    registered = mlflow_run.RegisteredCandidate(
        version=3, run_id="run", rows=9, metrics={}, reasons=reasons, reference=empty
    )
    assert subject.complete(request("r1"), registered, 1.0).result == result
    assert [each.result for each in publisher.results] == [result]
    assert publisher.changed == (["arrival_delay"] if result == "promoted" else [])


TYPES = {
    "word": "string",
    "count": "int",
    "km": "float",
    "flag": "bool",
    "since": "timestamp",
    "maybe": "timestamp?",
}


def declared_with_all_types() -> ModelDeclaration:
    given = DECLARATION.model_dump(by_alias=True, mode="json", exclude_unset=True)
    fields = {"flight_id": "string", "event_time": "timestamp", "flight": "string"}
    return ModelDeclaration.model_validate(
        given
        | {"request": given["request"] | {"schema": fields | TYPES, "key": "flight"}}
        | {"features": {"service": "s", "from_request": list(TYPES)}}
        | {
            "monitoring": {"quality": {"maybe": {"null_share_max": 0.3}}},
            "retraining": {"minimum_labels": 100, "holdout_days": 3},
        }
        | {"gates": {"floor": 1.0}}
    )


def archive_rows_of_all_types(settings: Settings, count: int = 400) -> None:
    """Each row as the wire has it: a time is a text with an offset."""
    digest = feature_sets.feature_set(MODEL, list(TYPES), ["word", "since", "maybe"]).digest
    predictions, outcomes = [], []
    for number in range(count):
        at_ms = NOW_MS - 11 * DAY_MS + number * (10 * DAY_MS // count)
        since = f"2023-10-{1 + number % 28:02d}T12:00:00.25+02:00"
        maybe = since if number % 5 else None
        row: list[FeatureValue] = ["ab"[number % 2], number % 7, number / 3, number % 3 == 0, since, maybe]
        predictions.append(prediction(f"p{number}", at_ms, row, digest))
        outcomes.append(outcome(f"p{number}", at_ms, float(number % 28 > 13)))
    archive(settings, predictions, outcomes)


def by_all_types(categorical: list[str], numeric: list[str]) -> Any:
    """A time is in neither list: a model takes it by its name."""
    assert (categorical, numeric) == (["word"], ["count", "km", "flag"])
    steps = [
        ("words", OneHotEncoder(handle_unknown="ignore", sparse_output=False), categorical),
        ("numbers", "passthrough", numeric),
        ("times", StandardScaler(), ["since"]),
    ]
    return make_pipeline(ColumnTransformer(steps), HistGradientBoostingClassifier(max_iter=20))


class Run:
    """A run of MLflow that seals the candidate as if it was registered."""

    run_id = "r"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.types: dict[str, str] = {}

    def __call__(self, *_: object) -> "Run":
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def log(self, *_: object) -> None: ...

    def register(self, run: RunFolder, _kept: object) -> int:
        folder, given = self._settings.home / "model", run.context.given
        released, examples = model_steps.estimators(run).released, model_steps.examples(run)
        registration.seal_estimator(self._settings, run.declaration, given, released, examples, folder)
        self.types = {name: each.type.value for name, each in input_format.read(folder, given).items()}
        return 7


def test_a_model_with_features_of_all_declared_types_is_trained_and_registered(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings, declared = Settings(home=tmp_path), declared_with_all_types()
    kinds = model_inputs.served(declared, ServicePlan("s", "p", (), ()))
    run, client = Run(settings), SimpleNamespace(search_model_versions=lambda _: [])
    monkeypatch.setattr(model_inputs, "of_model", lambda *_: kinds)
    monkeypatch.setattr(model_inputs, "definitions_of_model", lambda *_: {})
    monkeypatch.setattr(mlflow_client, "connect", lambda _: client)
    monkeypatch.setattr(mlflow_run, "RetrainingRun", run)
    monkeypatch.setattr(mlflow_run, "promote", lambda *_: None)
    monkeypatch.setattr(mlflow_run, "end_open_runs", lambda *_: None)
    monkeypatch.setattr(model_steps, "function_of", lambda *_: by_all_types)
    publisher.sets = FeatureSets([feature_sets.feature_set(MODEL, list(kinds), model_inputs.textual(kinds))])
    archive_rows_of_all_types(settings)
    folder = SimpleNamespace(valid={MODEL: declared}, faults={})
    result = Retrainer(settings, cast("Any", folder), publisher, no_ends).handle(request())
    assert result is not None
    assert (result.result, result.reasons, result.version) == ("promoted", [], 7)
    assert result.metrics["auc"] > 0.9
    assert run.types["since"] == "datetime"
    assert publisher.changed == [MODEL]


def test_a_run_is_compared_with_the_version_that_serves(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A repeat has the same champion, whoever serves then."""
    monkeypatch.setattr(model_inputs, "of_model", lambda *_: {})
    monkeypatch.setattr(model_inputs, "definitions_of_model", lambda *_: {})
    subject = retrainer(publisher, Settings(home=tmp_path))

    def champion(version: int) -> int | None:
        arms = [Arm(name="champion", version=version, weight=10_000)]
        publisher.latest = ModelChanged(model=MODEL, arms=arms, changed_at_ms=1, reason="by hand")
        run = subject.begin(request())
        assert isinstance(run, RunFolder)
        return run.context.champion

    assert [champion(3), champion(4)] == [3, 3]
    run_folder.of_request(Settings(home=tmp_path), MODEL, request().request_id).remove_all()
    assert champion(4) == 4
