"""Golden bytes: what was once written must always be readable, and is still written the same."""

from typing import Any

import msgspec
import pytest
from msgspec import inspect as types

from streams import records
from streams.json_decoder import InvalidRecordError

PREDICTION = records.Prediction(
    prediction_id="2013-07-01-UA1545-EWR",
    model="arrival_delay",
    version=3,
    arm="champion",
    arm_weight=10_000,
    event_time_ms=1_372_694_700_000,
    scored_time_ms=1_372_694_700_012,
    source_partition=2,
    source_offset=77,
    features=[16.0, "UA", None],
    features_lag_ms=0,
    score=0.25,
    prediction=0,
    shadow_scores={"frozen": 0.5},
    feature_set="7fa4a49efe47",
    source="fbb17c1e",
)
GOLDEN = [
    (
        PREDICTION,
        (
            b'{"prediction_id":"2013-07-01-UA1545-EWR","model":"arrival_delay","version":3,"arm":"champion",'
            b'"arm_weight":10000,"event_time_ms":1372694700000,"scored_time_ms":1372694700012,"source_partition":2,'
            b'"source_offset":77,"features":[16.0,"UA",null],"features_lag_ms":0,"score":0.25,"prediction":0,'
            b'"shadow_scores":{"frozen":0.5},"feature_set":"7fa4a49efe47","source":"fbb17c1e"}'
        ),
    ),
    (
        records.ModelChanged(
            model="m",
            arms=[records.Arm(name="champion", version=2, weight=10_000)],
            changed_at_ms=5,
            reason="drift",
        ),
        (
            b'{"type":"model_changed","model":"m","arms":[{"name":"champion","version":2,"weight":10000,'
            b'"effective_from_ms":0,"shadow":false,"segment":{},"buckets":[]}],"changed_at_ms":5,"reason":"drift","request_id":"",'
            b'"reference":null,"learned":null,"reference_name":null}'
        ),
    ),
    (
        records.LearnedModel(
            model="m", version=4, interval_end_ms=1_372_694_400_000, labels=900, estimator=b"\xff"
        ),
        b'{"model":"m","version":4,"interval_end_ms":1372694400000,"labels":900,"estimator":"/w=="}',
    ),
    (
        records.Erasure(
            erasure_id="e",
            join_keys=["user"],
            salt=b"\xff",
            digest=b"\x00",
            at_ms=5,
            expires_ms=None,
            offsets={"clicks": [7, 0]},
        ),
        (
            b'{"erasure_id":"e","join_keys":["user"],"salt":"/w==","digest":"AA==","at_ms":5,"expires_ms":null,'
            b'"offsets":{"clicks":[7,0]},"topic_ids":{},"complete":false}'
        ),
    ),
    (
        records.DeadLetter(
            service="scoring",
            reason="r",
            topic="t",
            partition=0,
            offset=1,
            key=None,
            value=b"\xff",
            failed_time_ms=9,
        ),
        (
            b'{"service":"scoring","reason":"r","topic":"t","partition":0,"offset":1,"key":null,"value":"/w==",'
            b'"failed_time_ms":9}'
        ),
    ),
]


@pytest.mark.parametrize(("record", "golden"), GOLDEN, ids=lambda value: type(value).__name__)
def test_record_is_written_and_read_as_ever(record, golden):
    assert records.encode(record) == golden
    assert records.decoder_of(type(record)).decode(golden) == record


def test_prediction_of_before_features_had_names_is_still_read():
    old = records.encode(PREDICTION).replace(b',"feature_set":"7fa4a49efe47"', b"")
    assert records.decoder_of(records.Prediction).decode(old).feature_set == ""


def test_arm_of_before_there_were_segments_is_still_read():
    old = b'{"name":"champion","version":2,"weight":10000,"effective_from_ms":0,"shadow":false}'
    assert records.decoder_of(records.Arm).decode(old) == records.Arm(
        name="champion", version=2, weight=10_000
    )


def test_change_of_before_there_were_learned_spans_is_still_read():
    old = b'{"type":"model_changed","model":"m","arms":[],"changed_at_ms":5,"reason":"drift"}'
    assert records.decoder_of(records.ModelChanged).decode(old) == records.ModelChanged(
        model="m", arms=[], changed_at_ms=5, reason="drift"
    )


def test_records_that_share_a_topic_are_told_apart():
    decoder = records.decoder_of(records.RetrainingRecord)
    finished = records.RetrainingFinished(
        request_id="r", model="m", trigger="drift", requested_at_ms=1, result="rejected", version=0
    )
    assert decoder.decode(records.encode(finished)) == finished
    with pytest.raises(InvalidRecordError, match="trigger"):
        decoder.decode(records.encode(finished).replace(b'"drift"', b'"whim"'))


WIRE = (
    records.Prediction, records.Outcome, records.DriftRecord, records.RetrainingRecord, records.ModelsRecord,
    records.LearnedModel, records.DeadLetter, records.ReplayMark, records.FeatureRow, records.AlertRecord,
    records.LedgerEntry,
)  # fmt: skip
EXACT_SUMS = {"sums", "products", "squares"}
"""Integers of any size: sums over all rows of a training set."""


def numbers_of(kind: Any, seen: set[Any]) -> list[types.IntType]:
    """Return the types of all integers within a type."""
    if isinstance(kind, types.IntType):
        return [kind]
    if isinstance(kind, types.StructType):
        if kind.cls in seen:
            return []
        seen.add(kind.cls)
        parts = [field.type for field in kind.fields if field.name not in EXACT_SUMS]
    else:
        names = ("item_type", "item_types", "key_type", "value_type", "types")
        found = [getattr(kind, name, ()) for name in names]
        parts = [part for each in found for part in (each if isinstance(each, tuple) else (each,))]
    return [number for part in parts for number in numbers_of(part, seen)]


@pytest.mark.parametrize("kind", WIRE, ids=str)
def test_every_integer_of_a_record_has_bounds(kind):
    """Readers compute with it, and write it to int64 columns and as dates."""
    for number in numbers_of(types.type_info(kind), set()):
        assert number.ge is not None
        assert number.le is not None


def test_time_that_is_no_date_is_an_invalid_record():
    letter = msgspec.json.encode(
        {"service": "s", "reason": "r", "topic": "t", "partition": 0, "offset": 0, "key": None,
         "value": None, "failed_time_ms": 2**62}
    )  # fmt: skip
    with pytest.raises(InvalidRecordError, match="failed_time_ms"):
        records.decoder_of(records.DeadLetter).decode(letter)
