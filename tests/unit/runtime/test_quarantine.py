"""Which records are rejected and which models are set aside, as a function of their errors."""

import pytest
from kafka.errors import KafkaConnectionError

from services.runtime import metrics, quarantine
from services.runtime.kafka_outbox import StoppedError
from services.runtime.quarantine import GROUP_ROWS, Care, Quarantine, RecordPlace, is_defect
from services.runtime.snapshots import SnapshotError
from streams.defects import ATTEMPTS_MAX


def place(offset: int) -> RecordPlace:
    return RecordPlace("labels", 0, offset)


def error(text: str = "boom") -> Exception:
    try:
        raise ValueError(text)  # so that it has a traceback
    except ValueError as caught:
        return caught


@pytest.fixture
def kept() -> Quarantine:
    return Quarantine("test")


def fail(kept: Quarantine, *offsets: int, frontier_ms: int | None = 10, now_seconds: float = 0.0) -> None:
    kept.failed("m", error(), [place(offset) for offset in offsets], frontier_ms, now_seconds)


def test_the_only_suspect_of_so_many_errors_is_rejected_with_the_reason(kept: Quarantine) -> None:
    rejected = kept.rejected("m")
    for _ in range(ATTEMPTS_MAX - 1):
        fail(kept, 5)
        assert not rejected
    fail(kept, 5)
    assert set(rejected) == {place(5)}
    assert rejected[place(5)].startswith("defect: ValueError: boom at tests/unit/runtime/test_quarantine.py")
    assert kept.care("m") is None
    assert kept.detail() == {}


def test_many_suspects_become_few_and_then_one(kept: Quarantine) -> None:
    assert kept.care("m") is None
    fail(kept, *range(1000))
    assert kept.care("m") == Care(GROUP_ROWS, frozenset())
    fail(kept, *range(64, 128))
    assert kept.care("m") == Care(GROUP_ROWS, frozenset(map(place, range(64, 128))))
    fail(kept, 100)
    assert set(kept.rejected("m")) == {place(100)}


def test_the_next_record_with_the_same_error_is_rejected_at_once(kept: Quarantine) -> None:
    for _ in range(ATTEMPTS_MAX):
        fail(kept, 5)
    fail(kept, 6)
    assert set(kept.rejected("m")) == {place(5), place(6)}


def test_an_error_without_a_suspect_sets_the_model_aside_with_a_growing_pause(kept: Quarantine) -> None:
    gauge = metrics.MODELS_SET_ASIDE.labels("test", "m")
    for _ in range(ATTEMPTS_MAX - 1):
        fail(kept)
        assert kept.is_due("m", 0.0)
    fail(kept)
    assert gauge._value.get() == 1
    assert kept.detail().keys() == {"models_set_aside"}
    assert (kept.is_due("m", 0.9), kept.is_due("m", 1.0)) == (False, True)
    fail(kept, now_seconds=1.0)
    assert (kept.is_due("m", 2.9), kept.is_due("m", 3.0)) == (False, True)
    for _ in range(50):
        fail(kept, now_seconds=3.0)
    assert kept.is_due("m", 3.0 + quarantine.RETRY_SECONDS_MAX)


def test_a_model_is_restored_once_a_snapshot_has_passed_the_error(kept: Quarantine) -> None:
    for _ in range(ATTEMPTS_MAX):
        fail(kept, frontier_ms=10)
    kept.works("m", 1.0)
    kept.passed("m", 9)
    assert kept.detail()
    kept.passed("m", 10)
    assert kept.detail() == {}
    assert metrics.MODELS_SET_ASIDE.labels("test", "m")._value.get() == 0


def test_a_suspicion_ends_after_a_while_without_an_error(kept: Quarantine) -> None:
    fail(kept, now_seconds=5.0)
    kept.works("m", 5.0 + quarantine.CALM_SECONDS - 1)
    assert kept.care("m") is not None
    kept.works("m", 5.0 + quarantine.CALM_SECONDS)
    assert kept.care("m") is None


def test_a_model_whose_files_have_changed_is_due_at_once(kept: Quarantine) -> None:
    for _ in range(3):
        kept.set_aside("m", "its model.yaml is invalid", 0.0)
    assert not kept.is_due("m", 1.0)
    kept.changed("m")
    assert kept.is_due("m", 1.0)
    kept.works("m", 1.0)
    assert kept.detail() == {}


def test_an_invalid_declaration_sets_aside_only_a_model_that_has_no_valid_one(kept: Quarantine) -> None:
    kept.declare({"old"}, {"old": "line 3", "new": "line 7"}, 0.0)
    assert kept.detail() == {
        "models_set_aside": {"new": "line 7"},
        "declarations_invalid": {"old": "line 3", "new": "line 7"},
    }
    kept.declare({"old"}, {}, 1.0)
    assert kept.detail() == {}


def test_a_model_comes_back_when_its_declaration_is_mended(kept: Quarantine) -> None:
    """A process that opens no models does not say that it works."""
    kept.declare((), {"m": "line 7"}, 0.0)
    kept.declare({"m"}, {}, 1.0)
    assert (kept.detail(), kept.is_set_aside("m")) == ({}, False)


def test_opening_takes_the_error_of_the_model_and_raises_an_outage(kept: Quarantine) -> None:
    assert kept.open("m", 0.0, int, "7") == 7

    def fail_with(error: Exception) -> None:
        raise error

    assert kept.open("m", 0.0, fail_with, SnapshotError("delete the record")) is None
    assert kept.detail() == {"models_set_aside": {"m": "delete the record"}}
    with pytest.raises(KafkaConnectionError):
        kept.open("m", 0.0, fail_with, KafkaConnectionError())


def test_an_outage_and_a_stop_are_no_defects() -> None:
    assert is_defect(ValueError())
    assert not is_defect(KafkaConnectionError())
    assert not is_defect(StoppedError())
