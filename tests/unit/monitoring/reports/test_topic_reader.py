"""Which records of the drift topic are a model's history."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.monitoring.reports import topic_reader
from services.monitoring.reports.topic_reader import ReportsError
from services.runtime import kafka_consumers
from services.runtime.settings import Settings
from streams import records
from tests.unit.archive.kafka_records import Record
from tests.unit.monitoring.reports.windows import at


def test_only_the_records_of_the_model_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    report = records.encode(at(5).report)
    sent = [Record(0, report, key=b"m"), Record(1, report, key=b"other"), Record(2, None, key=b"m")]
    monkeypatch.setattr(kafka_consumers, "read_topic", lambda *_: iter(sent))
    history = topic_reader.read(Settings(home=tmp_path), "m")
    assert [each.report_id for each in history.windows()] == [at(5).report.report_id]


def test_a_missing_topic_is_an_error_with_its_message(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def missing(*_: Any) -> Iterator[Any]:
        raise kafka_consumers.MissingTopicError("no topic: run 'driftline setup'")

    monkeypatch.setattr(kafka_consumers, "read_topic", missing)
    with pytest.raises(ReportsError, match="driftline setup"):
        topic_reader.read(Settings(home=tmp_path), "m")
