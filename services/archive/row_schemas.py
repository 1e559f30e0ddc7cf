"""The tables: the columns of each, and how a column is read from a decoded record. Pure."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from services.monitoring import inference_log
from streams import record_origin, records, topics
from streams.codec import KafkaRecord

Partition = tuple[str, int]
"""Topic and partition number."""


class DecodedRecord(NamedTuple):
    """A Kafka record and the value decoded from it; for a heartbeat, the watermark it carries."""

    record: KafkaRecord
    decoded: Any


class TableColumn(NamedTuple):
    """One column of a table."""

    name: str
    type: pa.DataType
    read: Callable[[DecodedRecord], Any]
    """Return the column's value for one row; None is null."""


@dataclasses.dataclass(frozen=True)
class Table:
    """One Delta table.

    A column is only ever added, at the end: rows that were written before it existed have null there.
    """

    name: str
    columns: Sequence[TableColumn]
    partition_by: str
    """Topic or model: readers ask for one of these, and each is a handful of files per commit."""
    decode: Callable[[bytes], Any]
    """Raises `InvalidRecordError`. With ``repeats``, the result has a ``source_partition`` and an offset."""
    repeats: bool
    """Whether the topic itself can hold a record twice."""
    check: Callable[[Any, str, int], None] | None = None
    """Raises `InvalidRecordError` for a decoded record that cannot be of a model's topic and a partition."""
    heartbeats: bool = False
    """Whether heartbeats are rows, too: without them nobody can tell later which events were late."""

    def decoder(self, partition: Partition) -> Callable[[bytes], Any]:
        """Return what decodes and checks the values of a partition; it raises `InvalidRecordError`."""
        decode, check = self.decode, self.check
        if check is None:
            return decode
        model, number = topics.model_of(partition[0]), partition[1]

        def checked(value: bytes) -> Any:
            decoded = decode(value)
            check(decoded, model, number)
            return decoded

        return checked

    @functools.cached_property
    def schema(self) -> pa.Schema:
        """Return the Arrow schema of the columns."""
        return pa.schema([(column.name, column.type) for column in self.columns])

    @property
    def integer_columns(self) -> tuple[str, ...]:
        """The names of the columns that hold integers: times, offsets and versions, but no ids."""
        return tuple(column.name for column in self.columns if pa.types.is_integer(column.type))

    def batch(self, rows: Sequence[DecodedRecord]) -> pa.Table:
        """Return the rows as an Arrow table of the schema."""
        arrays = [pa.array(list(map(column.read, rows)), column.type) for column in self.columns]
        return pa.Table.from_arrays(arrays, schema=self.schema)


def unfit_rows(table: Table, rows: Sequence[DecodedRecord]) -> list[tuple[DecodedRecord, Exception]]:
    """Return the rows that the table cannot hold, each with its error: found by halving."""
    if not rows:
        return []
    try:
        table.batch(rows)
    except Exception as error:  # noqa: BLE001  # whatever it is, these rows have it
        if len(rows) == 1:
            return [(rows[0], error)]
        half = len(rows) // 2
        return unfit_rows(table, rows[:half]) + unfit_rows(table, rows[half:])
    return []


def feature_numbers(features: Sequence[records.FeatureValue]) -> list[float | None]:
    """Return the numbers of a row of mixed values, null where the value is a text.

    >>> feature_numbers([7, "UA", None, True])
    [7.0, None, None, 1.0]
    """
    return [None if value is None or value.__class__ is str else float(value) for value in features]


def feature_texts(features: Sequence[records.FeatureValue]) -> list[str | None]:
    """Return the texts of a row of mixed values, null where the value is a number.

    >>> feature_texts([7, "UA", None, True])
    [None, 'UA', None, None]
    """
    return [value if value.__class__ is str else None for value in features]


def _from_record(name: str, type_: pa.DataType) -> TableColumn:
    """Declare a column whose value is an attribute of the Kafka record."""
    return TableColumn(name, type_, attrgetter(f"record.{name}"))


def _from_decoded(name: str, type_: pa.DataType) -> TableColumn:
    """Declare a column whose value is the field of that name of the decoded record."""
    return TableColumn(name, type_, attrgetter(f"decoded.{name}"))


def _heartbeat_watermark(row: DecodedRecord) -> int | None:
    return row.decoded if row.record.value is None else None


def _prediction_json(row: DecodedRecord) -> str | None:
    prediction = row.decoded.prediction
    return None if prediction is None else msgspec.json.encode(prediction).decode()


def _predicted_class(row: DecodedRecord) -> str | None:
    prediction = row.decoded.prediction
    return prediction if isinstance(prediction, str) else None


def _evidence_json(row: DecodedRecord) -> str:
    return msgspec.json.encode(row.decoded.evidence).decode()


def _record_text(row: DecodedRecord) -> str:
    return (row.record.value or b"").decode()


def _given(name: str) -> Callable[[DecodedRecord], Any]:
    """Return a function that reads a field which may be absent: null then."""
    read = attrgetter(f"decoded.{name}")

    def found(row: DecodedRecord) -> Any:
        value = read(row)
        return None if value is msgspec.UNSET else value

    return found


def _given_by_arm(name: str) -> Callable[[DecodedRecord], list[tuple[str, Any]] | None]:
    """Return a function that reads a field with a value for each arm, which may be absent: null then."""
    given = _given(name)

    def found(row: DecodedRecord) -> list[tuple[str, Any]] | None:
        values = given(row)
        return None if values is None else list(values.items())

    return found


_SCORES_BY_ARM = pa.map_(pa.string(), pa.float64())
_INTEGERS_BY_ARM = pa.map_(pa.string(), pa.int32())

EVENTS = Table(
    name=inference_log.EVENTS,
    columns=(
        _from_record("topic", pa.string()),
        _from_record("partition", pa.int32()),
        _from_record("offset", pa.int64()),
        TableColumn("timestamp_ms", pa.int64(), attrgetter("record.timestamp")),
        _from_record("key", pa.binary()),
        _from_record("value", pa.binary()),
        TableColumn("watermark_ms", pa.int64(), _heartbeat_watermark),  # of a heartbeat, whose value is null
    ),
    partition_by="topic",
    decode=lambda value: value,
    repeats=False,
    heartbeats=True,
)
PREDICTIONS = Table(
    name=inference_log.PREDICTIONS,
    columns=(
        _from_decoded("model", pa.string()),
        _from_record("partition", pa.int32()),
        _from_record("offset", pa.int64()),
        _from_decoded("prediction_id", pa.string()),
        _from_decoded("version", pa.int32()),
        _from_decoded("arm", pa.string()),
        _from_decoded("arm_weight", pa.int32()),
        _from_decoded("event_time_ms", pa.int64()),
        _from_decoded("scored_time_ms", pa.int64()),
        _from_decoded("source_partition", pa.int32()),
        _from_decoded("source_offset", pa.int64()),
        TableColumn(
            "features_number", pa.list_(pa.float64()), lambda row: feature_numbers(row.decoded.features)
        ),
        TableColumn("features_text", pa.list_(pa.string()), lambda row: feature_texts(row.decoded.features)),
        _from_decoded("features_lag_ms", pa.int64()),
        _from_decoded("score", pa.float64()),
        TableColumn("prediction", pa.string(), _prediction_json),  # as JSON: its type depends on the task
        TableColumn("shadow_scores", _SCORES_BY_ARM, _given_by_arm("shadow_scores")),
        TableColumn("probabilities", pa.list_(pa.float64()), _given("probabilities")),
        TableColumn("predicted_class", pa.string(), _predicted_class),
        TableColumn("fallback_from", pa.string(), _given("fallback_from")),
        _from_decoded("feature_set", pa.string()),
        _from_decoded("source", pa.string()),
        TableColumn("shadow_versions", _INTEGERS_BY_ARM, _given_by_arm("shadow_versions")),
        TableColumn(
            "shadow_probabilities",
            pa.map_(pa.string(), pa.list_(pa.float64())),
            _given_by_arm("shadow_probabilities"),
        ),
        TableColumn("fallback_version", pa.int32(), _given("fallback_version")),
        TableColumn("call_us", pa.int32(), _given("call_us")),
        TableColumn("shadow_call_us", _INTEGERS_BY_ARM, _given_by_arm("shadow_call_us")),
    ),
    partition_by="model",
    decode=records.decoder_of(records.Prediction).decode,
    check=record_origin.check_prediction,
    repeats=True,
)
OUTCOMES = Table(
    name=inference_log.OUTCOMES,
    columns=(
        _from_decoded("model", pa.string()),
        _from_record("partition", pa.int32()),
        _from_record("offset", pa.int64()),
        _from_decoded("prediction_id", pa.string()),
        _from_decoded("version", pa.int32()),
        _from_decoded("arm", pa.string()),
        _from_decoded("event_time_ms", pa.int64()),
        _from_decoded("label_time_ms", pa.int64()),
        _from_decoded("source_partition", pa.int32()),
        _from_decoded("source_offset", pa.int64()),
        _from_decoded("label", pa.float64()),
        _from_decoded("score", pa.float64()),
        _from_decoded("loss", pa.float64()),
        TableColumn("shadow_scores", _SCORES_BY_ARM, _given_by_arm("shadow_scores")),
        TableColumn("class_name", pa.string(), lambda row: row.decoded.class_name or None),
        _from_decoded("cost", pa.float64()),
        _from_decoded("source", pa.string()),
        _from_decoded("definition", pa.string()),
        _from_decoded("correction", pa.int32()),
        _from_decoded("corrected_label", pa.float64()),
        TableColumn("shadow_versions", _INTEGERS_BY_ARM, _given_by_arm("shadow_versions")),
    ),
    partition_by="model",
    decode=records.decoder_of(records.Outcome).decode,
    check=record_origin.check_outcome,
    repeats=True,
)
LEDGER = Table(
    name=inference_log.LEDGER,
    columns=(
        _from_record("partition", pa.int32()),
        _from_record("offset", pa.int64()),
        _from_decoded("entry_id", pa.string()),
        _from_decoded("number", pa.int64()),
        _from_decoded("kind", pa.string()),
        _from_decoded("model", pa.string()),
        _from_decoded("version", pa.int64()),
        _from_decoded("request_id", pa.string()),
        _from_decoded("actor", pa.string()),
        _from_decoded("at_ms", pa.int64()),
        _from_decoded("event_time_ms", pa.int64()),
        TableColumn("evidence", pa.string(), _evidence_json),
        _from_decoded("previous", pa.string()),
        _from_decoded("hash", pa.string()),
        TableColumn("record", pa.string(), _record_text),  # whose bytes have the hash
    ),
    partition_by="model",
    decode=records.decoder_of(records.LedgerEntry).decode,
    repeats=False,
)
