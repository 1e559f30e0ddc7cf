"""Versions of tables that models were trained on are found in the retraining topic."""

from types import SimpleNamespace
from typing import Any

import pytest

from services.archive import named_versions
from services.runtime import kafka_consumers
from services.runtime.settings import Settings
from streams import records
from streams.records import RetrainingFinished


def finished(version: int, **tables: int) -> bytes:
    result: Any = "promoted" if version else "failed"
    return records.encode(
        RetrainingFinished(
            request_id=f"r{version}", model="m", trigger="manual", requested_at_ms=1, result=result,
            version=version, data_tables=tables,
        )
    )  # fmt: skip


def test_each_named_version_of_a_table_is_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [finished(1, predictions=7, outcomes=9), b"{", None, finished(2, predictions=3), finished(0)]
    values.append(finished(3, predictions=7))
    found = [SimpleNamespace(value=value) for value in values]
    monkeypatch.setattr(kafka_consumers, "read_topic", lambda *_: found)
    settings = Settings(_env_file=None)
    assert named_versions.of_table(settings, "predictions") == [3, 7]
    assert named_versions.of_table(settings, "outcomes") == [9]
    assert named_versions.of_table(settings, "events") == []
