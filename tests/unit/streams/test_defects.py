"""The reason in a dead letter leads to the line that failed."""

import asyncio
import json

import pytest

from streams import defects


def reason_of(work):
    try:
        work()
    except Exception as error:  # noqa: BLE001  # the error is what the test looks at
        return defects.reason_of(error)
    raise AssertionError("nothing failed")


def test_reason_names_type_message_and_our_own_line():
    reason = reason_of(lambda: json.loads("{"))
    assert reason.startswith("defect: JSONDecodeError: Expecting property name")
    assert " at tests/unit/streams/test_defects.py:" in reason
    assert "decoder.py" not in reason


def test_long_messages_are_cut():
    def fail():
        raise ValueError("x" * 10_000)

    assert len(reason_of(fail)) < 2 * defects.REASON_CHARACTERS_MAX


def test_error_without_a_stack_has_no_place():
    assert defects.reason_of(ValueError("bad")) == "defect: ValueError: bad"


class Panic(BaseException):
    """As a library in Rust raises."""


def raised_by(error):
    with pytest.raises(BaseException) as found, defects.panics_as_errors():  # noqa: PT011
        raise error
    return found.value


def test_a_panic_is_raised_as_an_error_with_its_message():
    error = raised_by(Panic("index out of bounds"))
    assert isinstance(error, defects.PanicError)
    assert str(error) == "Panic: index out of bounds"


@pytest.mark.parametrize(
    "error", [ValueError("v"), asyncio.CancelledError(), KeyboardInterrupt(), SystemExit(1), GeneratorExit()]
)
def test_errors_and_what_is_meant_to_end_a_task_are_raised_as_they_are(error):
    assert raised_by(error) is error
