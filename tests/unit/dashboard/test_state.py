import math
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.dashboard import state
from streams.records import (
    Arm,
    ConfidenceDrift,
    DriftAlarm,
    DriftReport,
    ModelChanged,
    RetrainingFinished,
    RetrainingRequested,
    ValueStatistics,
)
from tests.unit.dashboard.reports import DAY_MS, performance, report


def alarm(number: int = 1, **changes: Any) -> DriftAlarm:
    fields: dict[str, Any] = {
        "alarm_id": f"a{number}",
        "model": "m",
        "version": 1,
        "kind": "feature",
        "subject": "temp",
        "value": 0.4,
        "threshold": 0.25,
        "detected_at_ms": number * DAY_MS,
        "since_ms": 0,
        "message": "temp is at 0.4",
    }
    return DriftAlarm(**(fields | changes))


def requested(number: int = 1) -> RetrainingRequested:
    return RetrainingRequested(
        request_id=f"r{number}",
        model="m",
        trigger="drift",
        requested_at_ms=number * DAY_MS,
        reason="temp drifts",
        evidence=[alarm(number)],
    )


def finished(number: int = 1) -> RetrainingFinished:
    return RetrainingFinished(
        request_id=f"r{number}",
        model="m",
        trigger="drift",
        requested_at_ms=number * DAY_MS,
        result="promoted",
        version=number + 1,
        metrics={"log_loss": 0.48, "undefined": math.nan},
        rows=1000,
        duration_seconds=3.5,
    )


def changed(day: int = 1, version: int = 2, outgoing: int = 1) -> ModelChanged:
    arms = [
        Arm(name="champion", version=outgoing, weight=10_000),
        Arm(name="champion", version=version, weight=10_000, effective_from_ms=day * DAY_MS),
        Arm(name="frozen", version=1, weight=0, shadow=True),
    ]
    return ModelChanged(
        model="m", arms=arms, changed_at_ms=day * DAY_MS, reason=f"day {day}", request_id=f"r{day}"
    )


def read(records: Iterable[state.Record], start: state.DashboardState | None = None) -> state.DashboardState:
    current = start or state.DashboardState()
    for record in records:
        current = state.reduce(current, record)
    return current


def everything(current: state.DashboardState) -> dict[str, state.ModelChanges]:
    return state.changes_since(current, 0)


RECORDS: list[state.Record] = [
    report(1),
    report(2),
    report(3),
    alarm(1),
    alarm(2),
    requested(1),
    finished(1),
    requested(2),
    changed(1),
    changed(3, 3, 2),
]


def test_report_becomes_a_window_whose_lists_follow_the_features():
    model = everything(read([report(3, ("temp", "wind"))]))["m"]
    window = model.windows[0]
    assert model.features == ["temp", "wind"]
    assert (window.psi, window.threshold, window.drifted) == ([0.3, 0.3], [0.25, 0.25], [0, 1])
    assert window.evidence == [3.0, 3.0]
    assert (window.log_loss, window.shadow_log_loss) == (0.5, {"frozen": 0.52})


def test_feature_that_comes_later_leaves_earlier_windows_and_their_columns_alone():
    model = everything(read([report(1, ("temp", "wind")), report(2, ("wind", "rain"))]))["m"]
    assert model.features == ["temp", "wind", "rain"]
    assert model.windows[0].psi == [0.1, 0.1]
    assert model.windows[1].psi == [None, 0.2, 0.2]


def test_repeated_records_return_the_very_same_state():
    once = read(RECORDS)
    assert read(RECORDS, once) is once


def test_replay_from_the_beginning_changes_nothing_for_a_page_that_saw_it():
    once = read(RECORDS)
    assert state.changes_since(read(RECORDS, once), once.revision) == {}


@given(st.permutations(RECORDS))
def test_order_of_the_topics_does_not_matter(records: list[state.Record]):
    assert everything(read(records)) == everything(read(RECORDS))


@given(st.lists(st.sampled_from(RECORDS), max_size=30), st.integers(0, 30))
def test_delta_after_a_prefix_completes_what_the_prefix_told(records: list[state.Record], cut: int):
    before, after = read(records[:cut]), read(records)
    page = _merged({}, everything(before))
    page = _merged(page, state.changes_since(after, before.revision))
    assert page == _merged({}, everything(after))


def _merged(page: Any, changes: dict[str, state.ModelChanges]) -> Any:
    keys = {"windows": "window_id", "alarms": "alarm_id", "retrainings": "request_id"}
    merged = {name: {kind: dict(items) for kind, items in kinds.items()} for name, kinds in page.items()}
    for name, model in changes.items():
        kinds = merged.setdefault(name, {kind: {} for kind in (*keys, "promotions")})
        for kind, key in keys.items():
            kinds[kind] |= {getattr(item, key): item for item in getattr(model, kind)}
        kinds["promotions"] |= {(p.arm, p.version, p.effective_from_ms): p for p in model.promotions}
    return merged


def test_request_and_result_of_a_retraining_merge_in_either_order():
    both: list[state.Record] = [requested(), finished()]
    forth, back = (everything(read(pair))["m"].retrainings for pair in (both, both[::-1]))
    assert forth == back
    assert (forth[0].reason, forth[0].result, forth[0].version, forth[0].alarms) == (
        "temp drifts",
        "promoted",
        2,
        ["a1"],
    )


def test_retraining_that_has_no_result_yet_is_running():
    assert everything(read([requested()]))["m"].retrainings[0].result is None


def test_outgoing_champion_keeps_its_own_promotion():
    promotions = everything(read([changed(1, 2, 1), changed(3, 3, 2)]))["m"].promotions
    champions = [(p.version, p.effective_from_ms, p.reason) for p in promotions if not p.shadow]
    assert champions[0] == (1, 0, "day 1")
    assert (2, DAY_MS, "day 1") in champions
    assert (3, 3 * DAY_MS, "day 3") in champions


def test_arms_are_those_of_the_latest_change_even_after_an_older_one_is_read():
    arms = everything(read([changed(3, 3, 2), changed(1, 2, 1)]))["m"].arms
    assert [arm.version for arm in arms] == [2, 3, 1]


def test_oldest_windows_fall_out_and_do_not_come_back(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(state, "WINDOWS_MAX", 3)
    current = read([report(day) for day in (5, 1, 2, 3, 4)])
    assert [window.window_id for window in everything(current)["m"].windows] == ["m:3", "m:4", "m:5"]
    assert state.reduce(current, report(1)) is current


def test_models_and_features_beyond_the_bounds_are_left_out_and_counted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(state, "MODELS_MAX", 1)
    monkeypatch.setattr(state, "FEATURES_MAX", 2)
    current = read([report(1, ("a", "b", "c")), report(1, model="other")])
    assert list(current.models) == ["m"]
    model = everything(current)["m"]
    assert (model.features, model.features_omitted) == (["a", "b"], 1)
    assert model.windows[0].psi == [0.1, 0.1]


def test_long_messages_are_cut():
    item = everything(read([alarm(message="x" * 10_000)]))["m"].alarms[0]
    assert len(item.message) == state.TEXT_LENGTH_MAX


def test_a_window_holds_values_and_a_version_those_of_its_training_once() -> None:
    def with_values(day: int) -> DriftReport:
        made = report(day, ("text", "temp"))
        known = ValueStatistics(mean=1.0, deviation=2.0, quantiles=[0.1, 0.2, 0.3, 0.4, 0.5])
        temp = msgspec.structs.replace(made.features[1], values=known, reference_values=known)
        confidence = ConfidenceDrift(
            mean=0.8, reference_mean=0.7, statistic=0, p_value=1, low_share=0.1, reference_low_share=0.2
        )
        features = [made.features[0], temp]
        return msgspec.structs.replace(made, features=features, score=temp, confidence=confidence)

    first = state.reduce(state.DashboardState(), with_values(1))
    second = state.reduce(first, with_values(2))
    found = state.changes_since(second, 0)["m"]
    assert [each.values for each in found.windows] == [[None, [1.0, 0.1, 0.3, 0.5]]] * 2
    assert found.windows[0].score_values == [1.0, 0.1, 0.3, 0.5]
    assert found.windows[0].confidence == [0.8, 0.1, 0.7, 0.2]
    assert [each.values for each in found.references] == [[None, [1.0, 0.1, 0.3, 0.5]]]
    assert state.changes_since(second, first.revision)["m"].references == []


def test_of_what_is_said_of_a_windows_predictions_the_highest_revision_stays() -> None:
    first, second = performance(0, 16.0, "provisional"), performance(1, 22.0, "mature")
    for order in ([first, second], [second, first], [first, second, first]):
        known = state.DashboardState()
        for record in order:
            known = state.reduce(known, record)
        (cohort,) = state.changes_since(known, 0)["m"].cohorts
        assert (cohort.state, cohort.realised, cohort.estimated) == ("mature", 22.0, 12.5)
        assert (cohort.measure, cohort.running_low, cohort.cost, cohort.unit) == (
            "absolute_error",
            None,
            3.0,
            "EUR",
        )


def test_an_alarm_is_active_until_the_first_window_whose_report_does_not_list_it():
    current = state.DashboardState()
    standing: list[list[str] | None] = [["a1", "a2"], ["a2"], None, []]
    current = state.reduce(current, alarm(1, detected_at_ms=DAY_MS + 5))
    current = state.reduce(current, alarm(2, detected_at_ms=DAY_MS + 6))
    for day, ids in enumerate(standing, 1):
        current = state.reduce(current, report(day, alarms_standing=ids))
        current = state.reduce(current, alarm(1, detected_at_ms=DAY_MS + 5))  # delivered again
    found = state.changes_since(current, 0)["m"]
    assert [each.ended_ms for each in found.alarms] == [3 * DAY_MS, 5 * DAY_MS]
    assert [each.alarms_active for each in found.windows] == [2, 1, None, 0]


def test_a_window_reported_late_ends_no_alarm_that_began_after_it():
    current = state.reduce(state.DashboardState(), alarm(1, detected_at_ms=4 * DAY_MS))
    current = state.reduce(current, report(1, alarms_standing=[]))
    assert state.changes_since(current, 0)["m"].alarms[0].ended_ms is None


def test_a_metric_that_is_no_number_is_left_out_of_a_retraining() -> None:
    model = everything(read([finished()]))["m"]
    assert model.retrainings[0].metrics == {"log_loss": 0.48}
    assert b"NaN" not in msgspec.json.encode(model)
