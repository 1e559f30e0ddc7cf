"""Records are of a subject by their fields, by the id of a request, or, unreadable ones, by their words."""

import pytest

from services.operations.erasure import record_matcher
from streams import codec
from streams.records import DeadLetter
from tests.unit.operations.erasure import subjects


@pytest.mark.parametrize(
    ("topic", "key", "value", "expected"),
    [
        ("clicks", None, b'{"user": "ada", "shop": 1}', True),
        ("clicks", None, b'{"user": "adam"}', False),
        ("clicks", b"ada", None, True),
        ("clicks", b"eve", None, False),
        ("weather", b"ada", None, False),
        ("clicks", None, b"{broken ada", False),
        ("tips.tips", None, b'{"ride": "r1"}', True),
        ("tips.tips", None, b'{"ride": "r2"}', False),
        ("rain.tips", None, b'{"ride": "r1"}', False),
        ("tips.asked", None, b'{"ride": "r1", "user": "eve"}', False),
    ],
)
def test_application_records(topic: str, key: bytes | None, value: bytes | None, *, expected: bool) -> None:
    matcher = subjects.matcher("customer", "ada")
    matcher.note_request("tips.asked", b'{"ride": "r1", "user": "ada"}')
    assert matcher.is_own(topic, key, value) is expected


def test_results_name_the_request() -> None:
    matcher = subjects.matcher("customer", "ada")
    matcher.note_request("tips.asked", b'{"ride": "r1", "user": "ada"}')
    assert matcher.is_own_result("driftline.predictions.tips", b'{"prediction_id": "r1"}')
    assert not matcher.is_own_result("driftline.outcomes.tips", b'{"prediction_id": "r2"}')
    assert not matcher.is_own_result("driftline.predictions.rain", b'{"prediction_id": "r1"}')
    assert not matcher.is_own_result("driftline.predictions.tips", None)


@pytest.mark.parametrize(
    ("topic", "value", "reason", "cut", "expected"),
    [
        ("clicks", b'{"user": "ada", "shop": []}', "", None, True),
        ("clicks", b'{"user": "eve", "note": "ada"}', "", None, False),
        ("clicks", b'{"user": "ada", bro', "", None, True),
        ("clicks", b'{"user": "adam", bro', "", None, False),
        ("clicks", b"{bro", "no user ada", None, True),
        ("clicks", b'{"user": "eve"}', "of ada", 5000, True),
        ("tips.tips", b'{"ride": "r1", "tip": "x"}', "", None, True),
        ("tips.tips", b'{"ride": "r1", bro', "", None, True),
        ("driftline.predictions.tips", b'{"prediction_id": "r1"}', "", None, True),
        ("driftline.predictions.tips", b'{"prediction_id": "r3"}', "", None, False),
    ],
)
def test_dead_letters(topic: str, value: bytes, reason: str, cut: int | None, *, expected: bool) -> None:
    matcher = subjects.matcher("customer", "ada")
    matcher.note_request("tips.asked", b'{"ride": "r1", "user": "ada"}')
    letter = DeadLetter(
        service="s", reason=reason, topic=topic, partition=0, offset=0, key=None, value=value,
        failed_time_ms=0, cut_from_bytes=cut,
    )  # fmt: skip
    assert matcher.is_own_letter(letter) is expected


def test_a_letter_teaches_no_id() -> None:
    matcher = subjects.matcher("customer", "ada")
    assert matcher.is_own("tips.asked", None, b'{"ride": "r", "user": "ada"}')
    assert matcher.ids == {"tips": set(), "rain": set()}


def test_other_encodings_are_read_by_their_declared_fields() -> None:
    def decoder_of(_topic: str, fields: object, _encoding: object) -> object:
        return codec.EventDecoder(fields)  # type: ignore[arg-type]

    read = record_matcher.decoders(subjects.PLAN, subjects.MODELS, decoder_of)
    assert read("clicks", b'{"user": "ada"}') == {"user": "ada"}
