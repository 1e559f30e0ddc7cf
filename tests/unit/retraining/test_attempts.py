"""How often a request was begun, as the committed offset keeps it."""

from services.retraining.attempts import Attempts, of_text
from streams.defects import ATTEMPTS_MAX


def test_attempts_are_those_of_one_offset() -> None:
    found = Attempts(7).next().next()
    assert found.of(7) == found
    assert found.of(8) == Attempts(8)
    assert found.passed(7) == found.passed(3) == found
    assert found.passed(8) == Attempts(8)


def test_the_text_beside_the_offset_keeps_them() -> None:
    attempts = Attempts(7).next().failed("defect: ValueError: x")
    assert of_text(attempts.text()) == attempts
    assert of_text("") == of_text(None) == of_text("written by another version") == Attempts(-1)
    assert len(Attempts(7).failed("x" * 10_000).text()) < 4096, "the broker takes no longer text"


def test_they_tell_whether_their_topic_was_deleted() -> None:
    attempts = Attempts(7, topic_id="a").next()
    assert attempts.are_of_another_topic("b")
    assert not attempts.are_of_another_topic("a")
    assert not attempts.are_of_another_topic("")
    assert not Attempts(7).are_of_another_topic("a")
    assert of_text(attempts.of(8).text()) == Attempts(8, topic_id="a")


def test_so_many_attempts_use_them_up() -> None:
    attempts = Attempts(7)
    for _ in range(ATTEMPTS_MAX):
        assert not attempts.are_used_up
        attempts = attempts.next()
    assert attempts.are_used_up
    assert not attempts.taken_back().are_used_up
