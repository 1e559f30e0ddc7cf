"""What a session does with its models besides reading and writing; tests/flow runs it on a real Kafka."""

from typing import Any

import pytest

from services.monitoring.input_topics import InputTopics
from services.rollout import session
from services.rollout.monitor import RolloutMonitor, fresh_state
from services.rollout.rollout_state import ModelRollouts
from services.rollout.session import KeyedDecoder, RolloutModel
from services.runtime import times
from streams.records import RolloutRequested, RolloutStarted
from tests.unit.rollout.rollout_model import NEW, OLD, START_MS, declaration, progress, shadowed


class Decoder:
    """Notes what it is given."""

    def __init__(self, calls: list[str]) -> None:
        self._calls = calls

    def take_predictions(self, messages: list[Any], _now_ms: int) -> None:
        self._calls.append(f"{len(messages)} predictions")

    def take_labels(self, messages: list[Any], _now_ms: int) -> None:
        self._calls.append(f"{len(messages)} labels")


class Message:
    partition, offset, key = 0, 7, b"shop-1"


def model() -> RolloutModel:
    decoder: Any = Decoder([])
    return RolloutModel(declaration(), RolloutMonitor(declaration(), fresh_state(1, 1, None)), decoder)


def test_keys_of_messages_come_before_their_predictions() -> None:
    calls: list[str] = []

    class Monitor:
        def note_key(self, partition: int, offset: int, key: bytes | None) -> None:
            calls.append(f"{partition}/{offset} {key!r}")

    monitor: Any = Monitor()
    decoder: Any = Decoder(calls)
    message: Any = Message()
    keyed = KeyedDecoder(monitor, decoder)
    keyed.take_predictions([message], 0)
    keyed.take_labels([message], 0)
    assert calls == ["0/7 b'shop-1'", "1 predictions", "1 labels"]


def test_time_is_that_of_the_latest_request(monkeypatch: pytest.MonkeyPatch) -> None:
    found = model()
    assert found.now_ms is None  # its last request is being read
    monkeypatch.setattr(session, "PEEK_SECONDS", 0.0)
    assert abs(times.now_ms() - (found.now_ms or 0)) < 1_000_000  # there is none
    found.monitor.add_prediction(0, 0, shadowed(1, START_MS, 0.2, 0.3))
    assert found.now_ms == START_MS


def test_only_models_in_a_rollout_are_read() -> None:
    rollouts = ModelRollouts()

    class Log:
        def of(self, name: str) -> ModelRollouts:
            return rollouts if name == "returned" else ModelRollouts()

    log: Any = Log()
    declared = {"returned": declaration(), "other": declaration()}
    assert session._in_rollout(log, declared) == {}
    rollouts.apply(
        RolloutRequested(
            request_id="r1", model="returned", version=NEW, requested_at_ms=0, reason="", actor=""
        )
    )
    assert session._in_rollout(log, declared) == {}
    rollouts.apply(
        RolloutStarted(
            rollout_id="r1", model="returned", version=NEW, champion=OLD, at_ms=0, reason="", actor=""
        )
    )
    assert list(session._in_rollout(log, declared)) == ["returned"]


def test_model_without_a_snapshot_begins_with_its_last_requests() -> None:
    topics = InputTopics("p", "l", [3, 0], [5])
    found = session._continued(None, progress(0, 0), topics)
    assert [each.offset for each in found.predictions] == [2, 0]
    assert [each.offset for each in found.labels] == [5]


def test_snapshot_of_an_earlier_rollout_is_not_continued() -> None:
    topics = InputTopics("p", "l", [90], [90])
    kept = fresh_state(1, 1, None)
    kept.topics = {"predictions": "p", "labels": "l"}
    kept.evidence.rollout_id = "r1"
    assert session._continued(kept, progress(0, 0), topics) is kept
    assert session._continued(kept, progress(0, 0, rollout_id="r2"), topics).predictions[0].offset == 89
