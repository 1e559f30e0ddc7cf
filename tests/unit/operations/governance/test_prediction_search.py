"""Predictions and outcomes are found in the tables by id."""

from pathlib import Path

import msgspec
import pytest

from services.archive import row_schemas
from services.archive.delta_writer import DeltaWriter
from services.archive.row_schemas import DecodedRecord
from services.operations.governance import prediction_search
from services.operations.governance.prediction_search import FoundPrediction
from services.runtime import kafka_consumers
from services.runtime.kafka_consumers import MissingTopicError
from services.runtime.settings import Settings
from streams import topics
from tests.unit.archive.kafka_records import OUTCOME, PREDICTION, Record


class NoKafka:
    """A broker without the topic."""

    def close(self, **_: object) -> None: ...


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    def missing(*_: object) -> int:
        raise MissingTopicError

    monkeypatch.setattr(kafka_consumers, "connect", lambda *_, **__: NoKafka())
    monkeypatch.setattr(kafka_consumers, "partition_count", missing)
    return Settings(home=tmp_path)


def archive(settings: Settings) -> None:
    again = msgspec.structs.replace(PREDICTION, event_time_ms=9, prediction=None)
    rows = [DecodedRecord(Record(offset, b""), each) for offset, each in enumerate((again, PREDICTION))]
    DeltaWriter(settings, row_schemas.PREDICTIONS).append(rows, {(topics.predictions("m"), 0): 2})
    corrected = msgspec.structs.replace(OUTCOME, label=0.0, correction=1)
    outcomes = [DecodedRecord(Record(offset, b""), each) for offset, each in enumerate((corrected, OUTCOME))]
    DeltaWriter(settings, row_schemas.OUTCOMES).append(outcomes, {(topics.outcomes("m"), 0): 2})


def found(settings: Settings, prediction_id: str = "0-0", model: str = "m") -> list[FoundPrediction]:
    return prediction_search.predictions(settings, model, prediction_id)


def test_prediction_is_found_with_its_values_as_served(settings: Settings) -> None:
    archive(settings)
    first, second = found(settings)
    assert (first.event_time_ms, first.prediction, first.place) == (0, True, "archive")
    assert first.features == [7.0, "UA", None, 1.0]
    assert (second.event_time_ms, second.prediction) == (9, None)
    assert found(settings, "0-1") == found(settings, model="n") == []


def test_latest_label_of_this_prediction_counts(settings: Settings) -> None:
    archive(settings)
    first, second = found(settings)
    outcome = prediction_search.outcome(settings, first)
    assert outcome is not None
    assert (outcome.label, outcome.correction) == (0.0, 1)
    assert prediction_search.outcome(settings, second) is None


def test_without_tables_nothing_is_found(settings: Settings) -> None:
    assert found(settings) == []
