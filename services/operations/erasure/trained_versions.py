"""Which versions of the archive's tables the versions of models were trained on."""

import contextlib
from collections import defaultdict

from services.runtime import kafka_consumers
from services.runtime.kafka_consumers import MissingTopicError
from services.runtime.settings import Settings
from streams import topics
from streams.json_decoder import InvalidRecordError
from streams.records import RetrainingFinished, RetrainingRecord, decoder_of


def of_table(settings: Settings, table: str) -> dict[int, list[str]]:
    """Return the versions of a table that models were trained on, each with the versions of models.

    Raises `KafkaError`.
    """
    decode = decoder_of(RetrainingRecord).decode
    found: defaultdict[int, list[str]] = defaultdict(list)
    with contextlib.suppress(MissingTopicError):
        for record in kafka_consumers.read_topic(settings, "erase-trained", topics.RETRAINING.name):
            with contextlib.suppress(InvalidRecordError):
                decoded = None if record.value is None else decode(record.value)
                if isinstance(decoded, RetrainingFinished) and table in decoded.data_tables:
                    found[decoded.data_tables[table]].append(f"{decoded.model} version {decoded.version}")
    return dict(found)
