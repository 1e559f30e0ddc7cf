"""Garbage is what no decoder of a topic takes."""

import random

import pytest

from streams import records, topics
from streams.json_decoder import InvalidRecordError
from tests.chaos import garbage

FIELDS = {"prediction_id": "a", "model": "m"}


def test_no_record_with_a_value_decodes_as_one_of_ours() -> None:
    kinds = records.DriftRecord, records.RetrainingRecord, records.Prediction, records.Outcome
    for each in garbage.made(random.Random(1), FIELDS):
        for kind in kinds:
            with pytest.raises(InvalidRecordError):
                records.decoder_of(kind).decode(each.value)


def test_a_seed_gives_the_same_records_again() -> None:
    assert garbage.made(random.Random(1), FIELDS) == garbage.made(random.Random(1), FIELDS)
    assert garbage.made(random.Random(1), FIELDS) != garbage.made(random.Random(2), FIELDS)


@pytest.mark.parametrize(
    ("topic", "is_read"),
    [("flights.arrived", True), (topics.predictions("m"), True), (topics.outcomes("m"), False)],
)
def test_a_value_that_is_refused_has_a_dead_letter(topic: str, is_read: bool) -> None:  # noqa: FBT001
    assert garbage.is_letter(garbage.Garbage("empty", b""), topic) is is_read
    assert not garbage.is_letter(garbage.Garbage("heartbeat", None), topic)
