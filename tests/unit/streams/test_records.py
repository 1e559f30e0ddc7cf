"""Golden bytes: what was once written must always be readable, and is still written the same."""

import pytest

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
            b'"reference":null,"learned":null}'
        ),
    ),
    (
        records.LearnedModel(
            model="m", version=4, interval_end_ms=1_372_694_400_000, labels=900, estimator=b"\xff"
        ),
        b'{"model":"m","version":4,"interval_end_ms":1372694400000,"labels":900,"estimator":"/w=="}',
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
