"""What an HTTP call for a retraining becomes: a request, the one that it repeats, or a refusal."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.model_registry import ledger_drafts
from services.retraining.history import RetrainingHistory
from services.retraining.http_requests import RetrainingCall, decided
from services.runtime.web.server import RequestError
from streams.records import RetrainingFinished, RetrainingRequested
from tests.unit.retraining.training_data import DECLARATION, NOW_MS, declaration

MODEL = DECLARATION.name


class World:
    """One model that is retrained, one without gates, one whose declaration is invalid."""

    def __init__(self) -> None:
        valid = {MODEL: declaration(), "plain": declaration().model_copy(update={"gates": None})}
        self.folder = cast("Any", SimpleNamespace(valid=valid, faults={"broken": "model.yaml:3:1: unknown"}))
        self.history = RetrainingHistory()

    def ask(self, model: str = MODEL, **fields: str) -> Any:
        answer, request = decided(model, RetrainingCall(**fields), self.history, self.folder, NOW_MS)
        if request is not None:
            self.history.add(request)
        return answer, request

    def refusal(self, model: str = MODEL, **fields: str) -> tuple[int, str]:
        with pytest.raises(RequestError) as raised:
            self.ask(model, **fields)
        return raised.value.status, str(raised.value)


def finish(request: RetrainingRequested) -> RetrainingFinished:
    return RetrainingFinished(
        request_id=request.request_id, model=request.model, trigger=request.trigger,
        requested_at_ms=request.requested_at_ms, result="rejected", version=4, reasons=["not better"],
    )  # fmt: skip


def test_a_call_becomes_a_request_with_the_id_of_the_caller() -> None:
    answer, request = World().ask(request_id="nightly-1", reason="nightly build")
    assert request == RetrainingRequested(
        request_id="nightly-1", model=MODEL, trigger="http", requested_at_ms=NOW_MS, reason="nightly build"
    )
    assert (answer.request_id, answer.model, answer.repeated, answer.result) == (
        "nightly-1", MODEL, False, None,
    )  # fmt: skip


def test_a_call_without_an_id_gets_a_new_one() -> None:
    ids = {World().ask()[0].request_id for _ in range(2)}
    assert len(ids) == 2
    assert all(each.startswith(f"{MODEL}-http-{NOW_MS}-") for each in ids)


def test_the_same_id_twice_is_one_request_and_the_answer_says_so() -> None:
    world = World()
    _, request = world.ask(request_id="nightly-1")
    answer, second = world.ask(request_id="nightly-1")
    assert second is None
    assert (answer.request_id, answer.repeated, answer.result) == ("nightly-1", True, None)
    world.history.add(finish(request))
    answer, second = world.ask(request_id="nightly-1")
    assert second is None
    assert (answer.result, answer.version, answer.reasons) == ("rejected", 4, ["not better"])


def test_the_id_of_another_model_is_refused() -> None:
    world = World()
    world.history.add(
        RetrainingRequested(request_id="x", model="other", trigger="manual", requested_at_ms=1, reason="")
    )
    status, text = world.refusal(request_id="x")
    assert status == 409
    assert "belongs to a retraining of other" in text
    assert "give another one" in text


def test_a_model_that_has_an_open_request_is_refused_with_its_id() -> None:
    world = World()
    world.ask(request_id="nightly-1")
    status, text = world.refusal(request_id="nightly-2")
    assert status == 409
    assert "nightly-1" in text
    assert "wait for its result" in text


def test_an_unknown_model_is_refused_with_the_known_ones() -> None:
    status, text = World().refusal("nobody")
    assert status == 404
    assert text == f"there is no model 'nobody'; declared models: {MODEL}, plain"


def test_a_model_that_cannot_be_retrained_is_refused_with_the_remedy() -> None:
    assert World().refusal("plain") == (
        422, "plain cannot be retrained: its model.yaml has no section gates; add one",
    )  # fmt: skip
    status, text = World().refusal("broken")
    assert status == 422
    assert "model.yaml:3:1: unknown" in text
    assert "mend it" in text


def test_a_call_need_not_wait_for_the_cooldown() -> None:
    world = World()
    _, request = world.ask(request_id="a")
    world.history.add(finish(request))
    _, second = world.ask(request_id="b")
    assert world.history.cooldown_refusal(second, declaration()) is None


def test_the_ledger_names_the_trigger_and_the_reason() -> None:
    _, request = World().ask(reason="nightly build")
    entry = ledger_drafts.of_request(request, at_ms=NOW_MS)
    assert (entry.kind, entry.evidence["trigger"], entry.evidence["reason"]) == (
        ledger_drafts.TRIGGER, "http", "nightly build",
    )  # fmt: skip
