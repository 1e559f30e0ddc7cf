import datetime as dt
from typing import Any

import msgspec
import pytest
from ruamel.yaml import YAML

from services.operations.slo import prometheus_rules
from tests.unit.drift import scenario
from tests.unit.monitoring.objectives import declaration

HOUR, DAY = 3600, 86_400


def rules(slo: str, **changes: Any) -> list[dict[str, Any]]:
    """Return the rules of one objective."""
    groups = prometheus_rules.document({"m": declaration(**changes)})["groups"]
    (group,) = [group for group in groups if group["name"].endswith(f"-{slo}")]
    found: list[dict[str, Any]] = group["rules"]
    return found


def test_rules_ask_two_windows_and_slow_ones_for_what_is_judged_once_a_window():
    content = prometheus_rules.document({"m": declaration()})
    alerts = [rule for group in content["groups"] for rule in group["rules"] if "alert" in rule]
    by_slo: dict[str, list[str]] = {}
    for alert in alerts:
        by_slo.setdefault(alert["labels"]["slo"], []).append(alert["labels"]["burn"])
    fast = ["14.4x 1h", "6x 6h", "3x 1d", "1x 3d"]
    assert by_slo == {"latency": fast, "availability": fast, "accuracy": ["3x 7h", "1x 14h"]}
    recorded = {
        (rule["record"], rule["labels"]["slo"])
        for group in content["groups"]
        for rule in group["rules"]
        if "record" in rule
    }
    assert ("driftline:slo_errors:ratio_rate28d", "latency") in recorded
    assert ("driftline:slo_budget:left", "accuracy") in recorded


def test_a_model_without_objectives_has_no_rules():
    assert prometheus_rules.document({"m": scenario.declaration()}) == {"groups": []}


def test_made_text_is_the_same_each_time():
    made = {prometheus_rules.as_yaml(prometheus_rules.document({"m": declaration()})) for _ in range(2)}
    assert len(made) == 1
    assert dt.timedelta(days=28) == dt.timedelta(milliseconds=declaration().slo.latency.window_ms)  # type: ignore[union-attr]
    assert msgspec.json.encode(prometheus_rules.document({"m": declaration()}))


def test_the_file_says_how_it_was_made_and_can_be_read_back():
    content = prometheus_rules.document({"m": declaration()})
    text = prometheus_rules.as_yaml(content)
    assert text.startswith("# Made by 'driftline slo rules'")
    assert YAML(typ="safe").load(text) == content
    assert "&id" not in text  # no anchors


def test_shares_are_recorded_once_per_window_from_the_shortest_on():
    names = [rule["record"] for rule in rules("latency") if "record" in rule]
    windows = ["5m", "30m", "1h", "2h", "6h", "1d", "3d", "28d"]
    assert names == [
        *(f"driftline:slo_errors:ratio_rate{window}" for window in windows),
        "driftline:slo_budget:left",
    ]


GOOD_LATENCY = (
    'sum(rate(driftline_prediction_duration_seconds_bucket{model="m",channel="rest",le="0.25"}[5m]))'
)
ALL_LATENCY = 'sum(rate(driftline_prediction_duration_seconds_count{model="m",channel="rest"}[5m]))'
ANSWERED = 'sum(rate(driftline_predictions_total{model="m"}[5m]))'
UNANSWERED = 'sum(rate(driftline_requests_unanswered_total{model="m"}[5m]))'
BAD_WINDOWS = 'sum(increase(driftline_judged_total{model="m",measure="windows",result="bad"}[2h]))'
ALL_WINDOWS = 'sum(increase(driftline_judged_total{model="m",measure="windows"}[2h]))'


@pytest.mark.parametrize(
    ("slo", "expr"),
    [
        ("latency", f"1 - {GOOD_LATENCY} / {ALL_LATENCY}"),
        ("availability", f"{UNANSWERED} / ({ANSWERED} + {UNANSWERED})"),
        ("accuracy", f"{BAD_WINDOWS} / {ALL_WINDOWS}"),
    ],
)
def test_each_objective_has_its_share_of_errors(slo: str, expr: str):
    name = declaration().name
    first = rules(slo)[0]
    assert first["expr"] == expr.replace('model="m"', f'model="{name}"')
    assert first["labels"] == {"model": name, "slo": slo}


def test_the_budget_that_is_left_is_measured_over_the_declared_window():
    (left,) = [each for each in rules("accuracy") if each.get("record") == "driftline:slo_budget:left"]
    name = declaration().name
    assert left["expr"] == (f'1 - driftline:slo_errors:ratio_rate10d{{model="{name}",slo="accuracy"}} / 0.1')


def test_an_alert_needs_both_windows_above_the_factor_times_the_allowed_share():
    first = next(each for each in rules("availability") if "alert" in each)
    about = f'{{model="{declaration().name}",slo="availability"}}'
    assert first["expr"] == (
        f"driftline:slo_errors:ratio_rate1h{about} > (14.4 * 0.001) and "
        f"driftline:slo_errors:ratio_rate5m{about} > (14.4 * 0.001)"
    )
    assert first["labels"]["severity"] == "critical"
    assert "the objective allows 0.100% in 28 days" in first["annotations"]["description"]


def test_what_is_judged_once_a_window_is_asked_over_whole_windows_of_an_hour_or_more():
    short = scenario.document() | {"monitoring": {"window_hours": 0.25, "lateness_hours": 1}}
    model = declaration().model_validate(short | {"slo": {"accuracy": {"objective": 0.9}}})
    assert model.slo.accuracy is not None
    slow = prometheus_rules.burns(model, model.slo.accuracy)
    assert [(burn.long_seconds, burn.short_seconds) for burn in slow] == [
        (7 * HOUR, 2 * HOUR),
        (14 * HOUR, 4 * HOUR),
    ]
    assert {burn.severity for burn in slow} == {"warning"}
    assert max(burn.long_seconds for burn in prometheus_rules.REQUESTS) == 3 * DAY
