"""The versions of tables that models were trained on come from the results of retrainings."""

from collections.abc import Iterator
from typing import Any

import pytest

from services.operations.erasure import trained_versions
from services.runtime import kafka_consumers
from services.runtime.settings import Settings
from streams import records
from streams.records import RetrainingFinished
from tests.unit.archive.kafka_records import Record


def test_results_name_tables_and_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    def finished(version: int, **tables: int) -> Record:
        result = RetrainingFinished(
            request_id=str(version), model="m", trigger="manual", requested_at_ms=0, result="promoted",
            version=version, data_tables=tables,
        )  # fmt: skip
        return Record(version, records.encode(result))

    found = [
        finished(1, predictions=4),
        finished(2, predictions=4, outcomes=9),
        Record(3, b"x"),
        Record(4, None),
    ]

    def read(*_: Any) -> Iterator[Record]:
        yield from found

    monkeypatch.setattr(kafka_consumers, "read_topic", read)
    settings = Settings(_env_file=None)
    assert trained_versions.of_table(settings, "predictions") == {4: ["m version 1", "m version 2"]}
    assert trained_versions.of_table(settings, "events") == {}
