"""Letters before the last one of the subject are written again, each once, and then deleted."""

from services.operations.erasure.held_letters import LetterPlan, plan_of
from streams import records
from streams.records import DeadLetter
from tests.unit.archive.kafka_records import Record


def letter(offset: int, key: bytes) -> Record:
    found = DeadLetter(
        service="s", reason="r", topic="t", partition=0, offset=0, key=key, value=None, failed_time_ms=0
    )
    return Record(offset, records.encode(found))


def of_ada(found: DeadLetter) -> bool:
    return found.key == b"ada"


def test_without_a_letter_of_the_subject_nothing_is_done() -> None:
    assert plan_of([letter(0, b"eve"), Record(1, None)], of_ada) == LetterPlan(0, 0, frozenset())


def test_others_before_the_last_one_are_copied_with_marks_and_garbage() -> None:
    found = [letter(3, b"eve"), Record(4, None), Record(5, b"garbage"), letter(6, b"ada"), letter(7, b"bob")]
    assert plan_of(found, of_ada) == LetterPlan(1, 7, frozenset({3, 4, 5}))


def test_after_a_crash_only_what_is_missing_is_copied() -> None:
    found = [letter(3, b"eve"), letter(4, b"ada"), letter(5, b"bob"), letter(6, b"ada"), letter(7, b"eve")]
    assert plan_of(found, of_ada) == LetterPlan(2, 7, frozenset({5}))
