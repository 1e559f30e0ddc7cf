"""The records that cannot be archived: each becomes a dead letter before a table's position passes it."""

from collections.abc import Sequence
from typing import Protocol

import structlog

from services.runtime import metrics
from streams import codec, records

log = structlog.get_logger()


class LetterWriter(Protocol):
    """Writes dead letters, e.g. `streams.producer.BatchProducer`."""

    async def send_dead_letters(self, letters: Sequence[records.DeadLetter]) -> None:
        """Write letters and wait until they are acknowledged."""


class InvalidRecords:
    """Collects dead letters until they are written."""

    def __init__(self, writer: LetterWriter) -> None:
        """Take what writes the letters."""
        self._writer = writer
        self._letters: list[records.DeadLetter] = []

    def add(self, record: codec.KafkaRecord, error: Exception) -> None:
        """Take a record and the error of decoding or converting it; raise the error if it is an outage."""
        letter = codec.letter_of("archive", record, error)
        self._letters.append(letter)
        log.error(
            "archive.record_invalid",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            reason=letter.reason,
        )

    async def write(self) -> None:
        """Write the letters and wait until they are acknowledged."""
        if not self._letters:
            return
        await self._writer.send_dead_letters(self._letters)
        for letter in self._letters:
            metrics.DEAD_LETTERS.labels("archive", letter.topic, letter.kind).inc()
        self._letters = []
