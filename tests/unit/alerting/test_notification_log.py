"""Keys and records of the alerts topic."""

from services.alerting import notification_log
from streams import records
from streams.records import Notified, Silence
from tests.unit.alerting.test_alert_state import NOW_MS, alert

SILENCE = Silence(silence_id="4f21a0", until_ms=NOW_MS + 1, created_ms=NOW_MS, reason="r", model="m")
NOTIFIED = Notified(destination="oncall", alert=alert("a"), state="told", told_ms=NOW_MS)


def test_record_replaces_the_earlier_one_of_the_same_alert_and_destination():
    later = Notified(destination="oncall", alert=alert("a"), state="resolved", told_ms=NOW_MS + 1)
    elsewhere = Notified(destination="team", alert=alert("a"), state="told", told_ms=NOW_MS)
    assert notification_log.key_of(NOTIFIED) == notification_log.key_of(later) == b"notified/oncall/a"
    assert notification_log.key_of(elsewhere) == b"notified/team/a"


def test_key_tells_silences_from_notifications():
    assert notification_log.silence_id_of(notification_log.key_of(SILENCE)) == "4f21a0"
    assert notification_log.silence_id_of(notification_log.key_of(NOTIFIED)) is None
    assert notification_log.silence_id_of(b"\xff") is None


def test_decoding_restores_the_record():
    for record in (SILENCE, NOTIFIED):
        assert notification_log.decoded(records.encode(record)) == record


def test_invalid_record_is_none():
    assert notification_log.decoded(b"{") is None
    assert notification_log.decoded(b"\xff\xff") is None
