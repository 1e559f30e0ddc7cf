"""The versions of the tables that trained models name: their files are kept for as long as the table."""

import contextlib

from services.runtime import kafka_consumers
from services.runtime.settings import Settings
from streams import topics
from streams.codec import InvalidRecordError
from streams.records import RetrainingFinished, RetrainingRecord, decoder_of


def of_table(settings: Settings, table: str) -> list[int]:
    """Return the versions of a table on which registered models were trained, rising.

    The retraining topic holds all results without a limit; a result that made no version names none.
    Raises `KafkaError` if it cannot be read.
    """
    decode = decoder_of(RetrainingRecord).decode
    found: set[int] = set()
    for record in kafka_consumers.read_topic(settings, "archive-named", topics.RETRAINING.name):
        with contextlib.suppress(InvalidRecordError):  # the retraining process writes its dead letter
            decoded = None if record.value is None else decode(record.value)
            if isinstance(decoded, RetrainingFinished) and table in decoded.data_tables:
                found.add(decoded.data_tables[table])
    return sorted(found)
