"""Each column holds the field that it is named for."""

import dataclasses
from typing import Any, cast

import msgspec
import pytest

from services.archive.row_schemas import (
    EVENTS,
    LEDGER,
    OUTCOMES,
    PREDICTIONS,
    DecodedRecord,
    Table,
    unfit_rows,
)
from streams.records import FeatureValue, Outcome, Prediction
from tests.unit.archive.kafka_records import LEDGER_ENTRY, OUTCOME, PREDICTION, Record


def row(table: Table, record: Record, decoded: object) -> dict[str, object]:
    """Return the only row of a batch, by column."""
    found: list[dict[str, object]] = table.batch([DecodedRecord(record, decoded)]).to_pylist()
    assert len(found) == 1
    return found[0]


def distinct(record: Prediction | Outcome) -> Prediction | Outcome:
    """Return the record with another number in each integer field, so that swapped columns differ."""
    integers = [field.name for field in msgspec.structs.fields(record) if field.type is int]
    return msgspec.structs.replace(record, **{name: 100 + number for number, name in enumerate(integers)})


@pytest.mark.parametrize(
    ("table", "decoded"), [(PREDICTIONS, distinct(PREDICTION)), (OUTCOMES, distinct(OUTCOME))]
)
def test_columns_named_like_a_field_hold_its_value(table: Table, decoded: Prediction | Outcome) -> None:
    found = row(table, Record(7, b"", partition=3), decoded)
    encoded_apart = {
        "features",
        "prediction",
        "shadow_scores",
        "probabilities",
        "class_name",
        "fallback_from",
        "fallback_version",
        "call_us",
        "shadow_versions",
        "shadow_probabilities",
        "shadow_call_us",
    }
    fields = msgspec.structs.asdict(decoded)
    assert {name: value for name, value in found.items() if name in fields.keys() - encoded_apart} == {
        name: value for name, value in fields.items() if name not in encoded_apart
    }
    assert (found["partition"], found["offset"]) == (3, 7)


def test_features_are_two_lists_of_equal_length() -> None:
    found = row(PREDICTIONS, Record(0, b""), PREDICTION)
    assert found["features_number"] == [7.0, None, None, 1.0]
    assert found["features_text"] == [None, "UA", None, None]


def test_a_prediction_of_several_classes_keeps_its_class_and_its_probabilities() -> None:
    decoded = msgspec.structs.replace(PREDICTION, prediction="red", probabilities=[0.25, 0.5, 0.25])
    found = row(PREDICTIONS, Record(0, b""), decoded)
    assert found["predicted_class"] == "red"
    assert found["prediction"] == '"red"'
    assert found["probabilities"] == [0.25, 0.5, 0.25]


@pytest.mark.parametrize("prediction", [True, 0.25, None])
def test_other_tasks_have_no_class_and_no_probabilities(prediction: FeatureValue) -> None:
    found = row(PREDICTIONS, Record(0, b""), msgspec.structs.replace(PREDICTION, prediction=prediction))
    assert (found["predicted_class"], found["probabilities"]) == (None, None)


def test_a_prediction_of_the_champion_for_another_arm_keeps_that_arm() -> None:
    fallback = msgspec.structs.replace(PREDICTION, fallback_from="new", fallback_version=4)
    found = row(PREDICTIONS, Record(0, b""), fallback)
    assert (found["fallback_from"], found["fallback_version"]) == ("new", 4)


def test_what_the_shadows_said_is_kept_with_their_versions_and_times() -> None:
    given: dict[str, dict[str, Any]] = {
        "shadow_scores": {"quiet": 0.7},
        "shadow_versions": {"quiet": 3, "broken": 4},
        "shadow_probabilities": {"quiet": [0.7, 0.3]},
        "shadow_call_us": {"quiet": 900},
    }
    found = row(PREDICTIONS, Record(0, b""), msgspec.structs.replace(PREDICTION, call_us=1500, **given))
    assert {name: dict(cast("list[tuple[str, Any]]", found[name])) for name in given} == given
    assert found["call_us"] == 1500
    outcome = row(OUTCOMES, Record(0, b""), msgspec.structs.replace(OUTCOME, shadow_versions={"quiet": 3}))
    assert outcome["shadow_versions"] == [("quiet", 3)]


def test_fields_that_a_prediction_lacks_are_null() -> None:
    found = row(PREDICTIONS, Record(0, b""), PREDICTION)
    absent = ("fallback_from", "fallback_version", "call_us", "shadow_versions", "shadow_probabilities")
    assert [found[name] for name in (*absent, "shadow_call_us")] == [None] * 6


def test_an_outcome_keeps_the_true_class_and_its_cost() -> None:
    found = row(OUTCOMES, Record(0, b""), msgspec.structs.replace(OUTCOME, class_name="blue", cost=25.0))
    assert (found["class_name"], found["cost"]) == ("blue", 25.0)


def test_an_outcome_without_class_or_cost_has_nulls() -> None:
    found = row(OUTCOMES, Record(0, b""), OUTCOME)
    assert (found["class_name"], found["cost"]) == (None, None)


def test_shadow_scores_are_a_map() -> None:
    for table, decoded in ((PREDICTIONS, PREDICTION), (OUTCOMES, OUTCOME)):
        shadowed = msgspec.structs.replace(decoded, shadow_scores={"challenger": 0.75})
        assert row(table, Record(0, b""), shadowed)["shadow_scores"] == [("challenger", 0.75)]


def test_an_event_is_archived_raw_and_a_heartbeat_with_its_watermark() -> None:
    event = Record(1, b"value", partition=2, topic="orders", timestamp=9, key=b"key")
    assert row(EVENTS, event, b"value") == {
        "topic": "orders",
        "partition": 2,
        "offset": 1,
        "timestamp_ms": 9,
        "key": b"key",
        "value": b"value",
        "watermark_ms": None,
    }
    heartbeat = row(EVENTS, Record(2, None), 77)
    assert (heartbeat["value"], heartbeat["watermark_ms"]) == (None, 77)


def test_an_entry_of_the_ledger_is_kept_with_the_record_whose_bytes_have_the_hash() -> None:
    found = row(LEDGER, Record(4, b'{"entry_id":"r/gate/floor"}'), LEDGER_ENTRY)
    assert found == msgspec.structs.asdict(LEDGER_ENTRY) | {
        "partition": 0,
        "offset": 4,
        "evidence": '{"floor":0.5}',
        "record": '{"entry_id":"r/gate/floor"}',
    }


@pytest.mark.parametrize("table", [EVENTS, LEDGER, PREDICTIONS, OUTCOMES])
def test_no_rows_make_a_batch_with_all_columns(table: Table) -> None:
    batch = table.batch([])
    assert (batch.num_rows, batch.schema) == (0, table.schema)


def test_exactly_the_rows_that_a_table_cannot_hold_are_found() -> None:
    first, *others = OUTCOMES.columns
    wide = first._replace(read=lambda row: 7 if row.record.offset in {0, 3, 6} else None)
    table = dataclasses.replace(OUTCOMES, columns=[wide, *others])
    rows = [DecodedRecord(Record(offset, b""), OUTCOME) for offset in range(7)]
    assert [row.record.offset for row, _ in unfit_rows(table, rows)] == [0, 3, 6]
    assert unfit_rows(OUTCOMES, rows) == []
