"""The reason in a dead letter leads to the line that failed."""

import json

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
