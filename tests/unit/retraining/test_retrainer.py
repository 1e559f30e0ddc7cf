"""A request has one result, and no result of a training is lost or published twice."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.retraining.retrainer import MakeChanges, Retrainer
from services.runtime.settings import Settings
from streams.feature_sets import FeatureSets
from streams.records import Reference, ReferenceName, RetrainingFinished, RetrainingRequested
from tests.unit.retraining.training_data import DECLARATION, request


class Publisher:
    """Both topics in memory."""

    def __init__(self) -> None:
        self.results: list[RetrainingFinished] = []
        self.changed: list[str] = []

    def publish_result(self, finished: RetrainingFinished) -> None:
        self.results.append(finished)

    def feature_sets(self, model: str) -> FeatureSets:
        return FeatureSets()

    def publish_reference(self, model: str, reference: Reference) -> ReferenceName:
        raise AssertionError(f"the reference of {model} fits into a change")

    def publish_changes(self, model: str, make: MakeChanges) -> None:
        self.changed.append(model)


@pytest.fixture
def publisher() -> Publisher:
    return Publisher()


def no_ends(topics: Sequence[str]) -> dict[str, list[int]]:
    return {topic: [] for topic in topics}


def retrainer(publisher: Publisher, **changes: object) -> Retrainer:
    declaration = DECLARATION.model_copy(update=changes)
    folder = SimpleNamespace(valid={declaration.name: declaration}, faults={})
    return Retrainer(Settings(), cast("Any", folder), publisher, no_ends)


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


def test_result_is_known_from_then_on(publisher: Publisher) -> None:
    subject = retrainer(publisher, gates=None)
    assert subject.handle(request("r1")) is not None
    assert subject.handle(request("r1")) is None
    assert len(publisher.results) == 1


def test_an_outage_of_the_registry_is_no_result(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(settings: Settings) -> None:
        raise ConnectionRefusedError("MLflow")

    monkeypatch.setattr("services.model_registry.mlflow_client.connect", connect)
    subject = retrainer(publisher)
    with pytest.raises(ConnectionRefusedError):
        subject.handle(request("r1"))
    assert publisher.results == []
    assert not subject.history.is_finished("r1")
