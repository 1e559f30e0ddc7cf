"""Events of erased subjects are recognised without their value, up to the end at the erasure."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.feature_store import erasures
from services.feature_store.erasures import ErasedSubjects, digest_of
from streams import records
from streams.records import Erasure

SALT = b"s" * 32
TOPIC = "flights.departed"


def erasure(
    parts: dict[str, object], offsets: dict[str, list[int]] | None = None, salt: bytes = SALT
) -> Erasure:
    return Erasure(
        erasure_id="e",
        join_keys=sorted(parts),
        salt=salt,
        digest=digest_of(salt, parts),
        at_ms=5,
        expires_ms=None,
        offsets={TOPIC: [10, 0]} if offsets is None else offsets,
        topic_ids={TOPIC: "id"},
    )


def is_erased(
    subjects: ErasedSubjects, parts: dict[str, Any], topic: str, partition: int, offset: int
) -> bool:
    return any(subjects.covers(each, topic, partition, offset) for each in subjects.of(parts))


@pytest.mark.parametrize(
    ("parts", "topic", "partition", "offset", "expected"),
    [
        ({"tailnum": "N1"}, TOPIC, 0, 9, True),
        ({"tailnum": "N1"}, TOPIC, 0, 10, False),
        ({"tailnum": "N1"}, TOPIC, 1, 0, False),
        ({"tailnum": "N1"}, TOPIC, 2, 0, False),
        ({"tailnum": "N1"}, "other", 0, 0, False),
        ({"tailnum": "N2"}, TOPIC, 0, 0, False),
        ({"origin": "N1"}, TOPIC, 0, 0, False),
        ({"origin": "EWR", "tailnum": "N1"}, TOPIC, 0, 9, True),
    ],
)
def test_events_before_the_end_of_their_partition_are_erased(
    parts: dict[str, str], topic: str, partition: int, offset: int, *, expected: bool
) -> None:
    subjects = ErasedSubjects([erasure({"tailnum": "N1"})])
    assert is_erased(subjects, parts, topic, partition, offset) is expected


def test_offsets_of_a_topic_that_was_recreated_count_no_more() -> None:
    known = [erasure({"tailnum": "N1"})]
    assert is_erased(ErasedSubjects(known, {TOPIC: "id"}), {"tailnum": "N1"}, TOPIC, 0, 0)
    assert not is_erased(ErasedSubjects(known, {TOPIC: "another"}), {"tailnum": "N1"}, TOPIC, 0, 0)


def test_a_part_of_a_subject_of_two_parts_is_not_erased() -> None:
    subjects = ErasedSubjects([erasure({"carrier": "UA", "origin": "EWR"})])
    assert is_erased(subjects, {"carrier": "UA", "origin": "EWR"}, TOPIC, 0, 0)
    assert not is_erased(subjects, {"carrier": "UA"}, TOPIC, 0, 0)
    assert not is_erased(subjects, {"carrier": "UA", "origin": "JFK"}, TOPIC, 0, 0)


def test_two_erasures_of_one_subject_and_two_salts_are_all_known() -> None:
    subjects = ErasedSubjects(
        [
            erasure({"user": 7}, {TOPIC: [3]}),
            erasure({"user": 7}, {TOPIC: [8]}),
            erasure({"user": 9}, {TOPIC: [1]}, b"t" * 32),
        ]
    )
    assert is_erased(subjects, {"user": 7}, TOPIC, 0, 7)
    assert is_erased(subjects, {"user": 9}, TOPIC, 0, 0)
    assert not is_erased(subjects, {"user": 9}, TOPIC, 0, 1)


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_number_and_its_text_have_one_digest(value: int) -> None:
    assert digest_of(SALT, {"user": value}) == digest_of(SALT, {"user": str(value)})


def test_the_record_does_not_hold_the_value() -> None:
    raw = records.encode(erasure({"tailnum": "N1545UA"}))
    assert b"N1545UA" not in raw
    assert erasures.decoded(raw) == erasure({"tailnum": "N1545UA"})
    assert erasures.decoded(b"{}") is None
    assert msgspec.json.decode(raw)["complete"] is False
