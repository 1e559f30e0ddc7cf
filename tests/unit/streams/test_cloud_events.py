"""The headers of CloudEvents, as the specification of Kafka's binary mode wants them."""

import itertools

import pytest

from streams import cloud_events, records
from streams.cloud_events import Envelope

REQUESTED = records.RetrainingRequested(
    request_id="m-drift-5", model="m", trigger="drift", requested_at_ms=1_372_694_700_012, reason="r"
)
CHANGED = records.ModelChanged(model="m", arms=[], changed_at_ms=7, reason="r", request_id="m-drift-5")
ALARM = records.DriftAlarm(
    alarm_id="a",
    model="m",
    version=1,
    kind="loss",
    subject="log_loss",
    value=1.0,
    threshold=0.5,
    detected_at_ms=7,
    since_ms=5,
    message="worse",
)


def test_record_about_a_model_has_every_attribute():
    """Required and optional ones, the time in RFC 3339."""
    assert dict(Envelope("drift", "m", enabled=True).headers(REQUESTED)) == {
        "ce_specversion": b"1.0",
        "ce_id": b"m-drift-5",
        "ce_type": b"driftline.retraining_requested",
        "ce_source": b"/driftline/drift/m",
        "ce_subject": b"m",
        "ce_time": b"2013-07-01T16:05:00.012Z",
        "content-type": b"application/json",
    }


@pytest.mark.parametrize(("record", "identity"), [(ALARM, b"a"), (CHANGED, b"m-7-m-drift-5")])
def test_identity_is_the_same_after_a_replay(record, identity):
    """It is made from the record alone."""
    assert dict(Envelope("drift", "m", enabled=True).headers(record))["ce_id"] == identity


def test_records_in_bulk_share_all_but_the_id():
    """The id is the place of the source record, so that a repeat has the same one."""
    first, second = Envelope("scoring", "m", enabled=True).bulk(records.Prediction, [(2, 77), (2, 78)], 0)
    assert dict(first) | {"ce_id": b"2-78"} == dict(second)
    assert dict(first)["ce_id"] == b"2-77"
    assert dict(first)["ce_time"] == b"1970-01-01T00:00:00.000Z"
    assert dict(first)["ce_type"] == b"driftline.prediction"


def test_an_envelope_that_is_off_adds_nothing():
    """Neither to one record nor to many."""
    envelope = Envelope("scoring", "m", enabled=False)
    assert envelope.headers(REQUESTED) == []
    assert list(itertools.islice(envelope.bulk(records.Prediction, []), 2)) == [[], []]


def test_types_follow_the_names_of_the_records():
    """A tagged record has the same name in its field ``type``."""
    for kind in (records.DriftReport, records.RetrainingFinished, records.ModelChanged):
        assert cloud_events.type_of(kind) == f"driftline.{kind.__struct_config__.tag}"
