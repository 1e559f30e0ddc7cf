"""How often requests were begun, as the committed offset keeps it."""

from services.retraining.attempts import Attempts, OpenAttempts, of_text
from streams.defects import ATTEMPTS_MAX


def test_the_text_beside_the_offset_keeps_the_attempts_of_each_request() -> None:
    attempts = Attempts(7).next().failed("killed")
    found = OpenAttempts(topic_id="a").noted(attempts).noted(Attempts(9).next())
    assert of_text(found.text()) == found
    assert (found.of(7), found.of(9).begun, found.of(8)) == (attempts, 1, Attempts(8))
    assert found.without(7).begun == [Attempts(9).next()]
    assert found.noted(attempts.taken_back()) == found.without(7)


def test_a_text_of_another_version_holds_none() -> None:
    assert of_text("") == of_text(None) == of_text("written by another version") == OpenAttempts()
    assert of_text('{"offset":7,"begun":2,"topic_id":"a"}') == OpenAttempts()


def test_the_attempts_of_ten_requests_fit_beside_an_offset() -> None:
    found = OpenAttempts(topic_id="a" * 40)
    for offset in range(10):
        found = found.noted(Attempts(10**9 + offset).next().failed("x" * 10_000))
    assert len(found.text()) < 4096, "the broker takes no longer text"


def test_they_tell_whether_their_topic_was_deleted() -> None:
    attempts = OpenAttempts(topic_id="a")
    assert attempts.are_of_another_topic("b")
    assert not attempts.are_of_another_topic("a")
    assert not attempts.are_of_another_topic("")
    assert not OpenAttempts().are_of_another_topic("a")


def test_so_many_attempts_use_them_up() -> None:
    attempts = Attempts(7)
    for _ in range(ATTEMPTS_MAX):
        assert not attempts.are_used_up
        attempts = attempts.next()
    assert attempts.are_used_up
    assert not attempts.taken_back().are_used_up
