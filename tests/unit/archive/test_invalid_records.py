"""Records that cannot be archived become dead letters, once, before the commit."""

import asyncio
from collections.abc import Sequence

import pytest
from kafka.errors import KafkaConnectionError

from services.archive.invalid_records import InvalidRecords
from streams import records
from streams.json_decoder import InvalidRecordError
from tests.unit.archive.kafka_records import MemoryLetters, Record


def test_each_record_is_written_once_with_its_kind_and_its_value() -> None:
    writer = MemoryLetters()
    invalid = InvalidRecords(writer)
    invalid.add(Record(1, b"{"), InvalidRecordError("no JSON"))
    invalid.add(Record(2, b"x"), OverflowError("too wide"))
    asyncio.run(invalid.write())
    asyncio.run(invalid.write())
    found = [(letter.offset, letter.kind, letter.value, letter.service) for letter in writer.letters]
    assert found == [(1, "invalid", b"{", "archive"), (2, "defect", b"x", "archive")]


def test_letters_are_kept_until_they_are_written() -> None:
    class AwayWriter(MemoryLetters):
        was_tried = False

        async def send_dead_letters(self, letters: Sequence[records.DeadLetter]) -> None:
            if not self.was_tried:
                self.was_tried = True
                raise KafkaConnectionError
            await super().send_dead_letters(letters)

    writer = AwayWriter()
    invalid = InvalidRecords(writer)
    invalid.add(Record(1, b"{"), InvalidRecordError("no JSON"))
    with pytest.raises(KafkaConnectionError):
        asyncio.run(invalid.write())
    asyncio.run(invalid.write())
    assert [letter.offset for letter in writer.letters] == [1]


def test_an_outage_is_raised() -> None:
    with pytest.raises(KafkaConnectionError):
        InvalidRecords(MemoryLetters()).add(Record(1, b"{"), KafkaConnectionError())
