"""Alerts of alarms, retrainings and changes of the champion."""

import msgspec
import pytest

from services.alerting import alerts
from streams import records
from tests.unit.alerting.test_alert_state import NOW_MS


def change(version: int, at_ms: int = 5) -> records.ModelChanged:
    arms = [
        records.Arm(name="champion", version=9, weight=10_000),
        records.Arm(name="champion", version=version, weight=10_000, effective_from_ms=7),
        records.Arm(name="frozen", version=1, weight=0, shadow=True),
    ]
    return records.ModelChanged(model="m", arms=arms, changed_at_ms=at_ms, reason="by hand")


@pytest.mark.parametrize(
    ("kind", "severity"), [("loss", "critical"), ("feature", "warning"), ("score", "warning")]
)
def test_only_harm_is_critical(kind, severity):
    alarm = records.DriftAlarm(
        alarm_id="id", model="m", version=1, kind=kind, subject="s", value=0.6, threshold=0.5,
        detected_at_ms=3, since_ms=1, message="text", segment="origin=EWR",
    )  # fmt: skip
    found = alerts.of_alarm(alarm, NOW_MS)
    assert (found.severity, found.stands, found.alert_id, found.segment) == (
        severity,
        True,
        "id",
        "origin=EWR",
    )
    assert found.effect == ("s 0.600, +0.100 against its limit" if kind == "loss" else "")


def test_contribution_names_its_segment():
    whole = records.Contribution(
        feature="x", bin="1 to 2", expected_share=0.1, share=0.25, psi=0.1, importance=None, weight=0.1
    )
    assert alerts.contributed(whole) == "x 1 to 2 (10.0% expected, 25.0% now)"
    part = msgspec.structs.replace(whole, segment="origin=EWR")
    assert alerts.contributed(part) == "x 1 to 2 where origin=EWR (10.0% expected, 25.0% now)"


@pytest.mark.parametrize(
    ("result", "severity"),
    [("promoted", "info"), ("passed", "info"), ("rejected", "warning"), ("failed", "critical")],
)
def test_severity_of_a_retraining_follows_its_result(result, severity):
    finished = records.RetrainingFinished(
        request_id="r",
        model="m",
        trigger="drift",
        requested_at_ms=1,
        result=result,
        version=4,
        reasons=["why"],
    )
    found = alerts.of_retraining(finished, NOW_MS)
    assert (found.severity, found.stands, found.alert_id) == (severity, False, f"r-{result}")
    assert found.title == f"retraining {result}, version 4: why"
    assert (found.request_id, found.event, found.version) == ("r", result, 4)


def test_a_request_for_a_retraining_is_an_alert_with_its_id():
    asked = records.RetrainingRequested(
        request_id="r", model="m", trigger="http", requested_at_ms=1, reason="nightly"
    )
    found = alerts.of_retraining(asked, NOW_MS)
    assert (found.request_id, found.event, found.version, found.severity) == ("r", "requested", 0, "info")


def test_only_an_earlier_version_is_a_rollback():
    assert alerts.of_rollback(None, change(3), NOW_MS) is None
    assert alerts.of_rollback(2, change(3), NOW_MS) is None
    assert alerts.of_rollback(3, change(3), NOW_MS) is None
    found = alerts.of_rollback(4, change(3), NOW_MS)
    assert found is not None
    assert (found.severity, found.title) == ("critical", "rolled back from version 4 to 3: by hand")
