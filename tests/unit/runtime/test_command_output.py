import aiokafka.errors
import kafka.errors
import pytest

from services.runtime.command_output import fail, failing_on, ok, say


def test_each_line_is_printed_on_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    say("a", 2)
    ok("done")
    assert capsys.readouterr() == ("a\n2\nok  done\n", "")


def test_all_faults_are_given_at_once() -> None:
    """Python prints a text that a process exits with on standard error, and exits with 1."""
    with pytest.raises(SystemExit) as ended:
        fail("first", "second")
    assert ended.value.code == "first\nsecond"


@pytest.mark.parametrize(("about", "line"), [("", "c: wrong"), ("m", "c: m: wrong")])
def test_an_expected_error_is_one_line_with_the_command(about: str, line: str) -> None:
    with pytest.raises(SystemExit) as ended, failing_on("c", LookupError, about=about):
        raise LookupError("wrong")
    assert ended.value.code == line


def test_a_subclass_of_an_expected_error_is_one_line_too() -> None:
    with pytest.raises(SystemExit, match="c: 'wrong'"), failing_on("c", ValueError, LookupError):
        raise KeyError("wrong")


@pytest.mark.parametrize(
    "error", [kafka.errors.KafkaTimeoutError("gone"), aiokafka.errors.KafkaConnectionError("gone")]
)
def test_an_error_of_a_kafka_client_names_the_next_step(error: Exception) -> None:
    with pytest.raises(SystemExit) as ended, failing_on("c", about="m"):
        raise error
    assert ended.value.code == f"c: Kafka: {error}: try 'driftline check --connect'"


def test_an_unexpected_error_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), failing_on("c", ValueError):
        raise ZeroDivisionError


def test_without_an_error_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with failing_on("c", ValueError):
        pass
    assert capsys.readouterr() == ("", "")
