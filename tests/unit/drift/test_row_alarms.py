"""Alarms on rows: features in level, shape and new categories, segments, and relations between features."""

import random
from typing import Any

from streams.inputs import LABEL, PREDICTION
from tests.unit.drift import scenario
from tests.unit.drift.scenario import COLOURS, HOUR_MS, START_MS, EngineFeeder, Traffic

ROWS_AN_HOUR = 300


def traffic(hours, related_from):
    """Return rows with a uniform x and constant shares of colours; from one hour the largest x are blue."""
    chance = random.Random(4)
    log = []
    for number in range(hours * ROWS_AN_HOUR):
        place = chance.random()
        of_colour = place if number >= related_from * ROWS_AN_HOUR else chance.random()
        colour = COLOURS[(of_colour >= 0.5) + (of_colour >= 0.8)]
        edges = [-2.0, -1.0, -0.7, -0.4, -0.1, 0.1, 0.4, 0.7, 1.0, 2.0]
        time_ms = START_MS + number * HOUR_MS // ROWS_AN_HOUR
        features = [edges[int(place * 10)], colour]
        log.append(scenario.prediction(number, time_ms, features=features, score=chance.uniform(0.1, 0.9)))
    end_ms = START_MS + (hours + 6) * HOUR_MS
    return Traffic([scenario.numbered([*log, end_ms])], [scenario.numbered([end_ms])])


def test_a_relation_that_appears_is_an_alarm_although_no_feature_changed():
    outputs = scenario.play(scenario.new_engine(), traffic(hours=8, related_from=3))
    (alarm,) = scenario.alarms(outputs)
    assert (alarm.kind, alarm.subject, alarm.detector) == ("relation", "x and colour", "e-detector")
    assert START_MS + 3 * HOUR_MS < alarm.detected_at_ms <= START_MS + 5 * HOUR_MS
    assert alarm.since_from_ms is not None
    assert alarm.since_to_ms is not None
    assert alarm.since_from_ms <= alarm.since_ms <= alarm.since_to_ms <= alarm.detected_at_ms
    assert "rank correlation is" in alarm.message
    reports = scenario.reports(outputs)
    before, after = reports[1].relations, reports[5].relations
    assert before is not None
    assert after is not None
    assert not before.pairs[0].drifted
    assert before.p_value > 0.01
    assert after.pairs[0].drifted
    assert after.p_value < 1e-6
    assert abs(after.pairs[0].correlation) > 0.8
    assert not any(feature.drifted for report in reports for feature in report.features)


def test_a_relation_alarm_is_cleared_when_the_relation_is_as_before():
    engine = scenario.new_engine()
    log = traffic(hours=4, related_from=1).predictions[0]
    scenario.feed(engine, PREDICTION, 0, log[:-1])
    later: list[Any] = [
        scenario.prediction(10_000 + number, START_MS + 4 * HOUR_MS + number * 10_000, features=[x, colour])
        for number, (x, colour) in enumerate(
            (x, colour) for _ in range(10) for x in (-2.0, -0.7, -0.1, 0.4, 1.0) for colour in COLOURS * 10
        )
    ]
    more = [*later, START_MS + 12 * HOUR_MS]
    scenario.feed(engine, PREDICTION, 0, [scenario.Entry(len(log) + at, one) for at, one in enumerate(more)])
    scenario.feed(engine, LABEL, 0, scenario.numbered([START_MS + 12 * HOUR_MS]))
    reports = scenario.reports(engine.advance())
    standing = [any("relation" in alarm for alarm in report.alarms_standing or ()) for report in reports]
    assert standing[3]
    assert not standing[-1]


def test_stationary_traffic_raises_no_alarm():
    logs = scenario.traffic(100, seed=3)
    engine = scenario.new_engine(partitions=2)
    outputs = scenario.play(engine, logs)
    assert len(scenario.reports(outputs)) >= 100
    assert scenario.alarms(outputs) == []
    assert outputs.requests == []


def test_a_feature_alarm_has_the_interval_of_its_start_and_its_effect():
    """x moves by two standard deviations, its mean rank from 0.5 to 0.9."""
    logs = scenario.traffic(12, seed=4, shift_at=5, a_hour=200)
    engine = scenario.new_engine(partitions=2)
    (alarm,) = [alarm for alarm in scenario.alarms(scenario.play(engine, logs)) if alarm.subject == "x"]
    shifted_ms = START_MS + 5 * HOUR_MS
    assert shifted_ms < alarm.detected_at_ms < shifted_ms + HOUR_MS
    assert alarm.since_from_ms is not None
    assert alarm.since_to_ms is not None
    assert alarm.since_from_ms <= shifted_ms <= alarm.since_to_ms <= alarm.detected_at_ms
    assert alarm.since_from_ms <= alarm.since_ms <= alarm.since_to_ms
    assert alarm.effect is not None
    assert 0.75 < alarm.effect < 0.95
    assert alarm.detector == "e-detector"


def test_an_alarm_is_raised_again_only_after_calm_windows_cleared_it():
    """x is shifted from hour 3 to 8 and from hour 14 on."""
    feeder, chance, found = EngineFeeder(alarm_windows=2), random.Random(2), []
    for number in range(18 * 200):
        hour = number // 200
        x = chance.gauss(2.0 if 3 <= hour < 8 or hour >= 14 else 0.0, 1.0)
        feeder.predict(number, number * 0.3, features=[x, "red"])
        found += scenario.alarms(feeder.until(number * 0.3))
    hours = [(alarm.detected_at_ms - START_MS) // HOUR_MS for alarm in found if alarm.subject == "x"]
    assert hours == [3, 14]


def test_many_new_categories_are_an_alarm_of_their_kind():
    feeder, chance, found = EngineFeeder(), random.Random(3), []
    for number in range(3000):
        colours = ("mauve",) if number > 1000 and chance.random() < 0.1 else ("red", "green", "blue")
        colour = chance.choices(colours, (5, 3, 2)[: len(colours)])[0]
        feeder.predict(number, number / 5, features=[chance.gauss(0, 1), colour])
        found += scenario.alarms(feeder.until(number / 5))
    (alarm,) = [alarm for alarm in found if alarm.kind == "category"]
    assert alarm.subject == "colour"
    assert "mauve" in alarm.message


def test_a_change_in_one_segment_is_an_alarm_of_the_segment():
    """x shifts in blue rows only, a fifth of all rows."""
    feeder, chance, found = EngineFeeder(segments=["colour"]), random.Random(4), []
    for number in range(3000):
        colour = chance.choices(scenario.COLOURS, (5, 3, 2))[0]
        x = chance.gauss(1.0 if colour == "blue" and number > 1000 else 0.0, 1.0)
        feeder.predict(number, number / 5, features=[x, colour])
        found += scenario.alarms(feeder.until(number / 5))
    assert ("x", "colour=blue") in {(alarm.subject, alarm.segment) for alarm in found}
    assert {alarm.segment for alarm in found} <= {"", "colour=blue"}
    (blue,) = [alarm for alarm in found if alarm.segment]
    assert {each.segment for each in blue.contributions} == {"colour=blue"}
    assert {alarm.subject for alarm in found} == {"x", "x and colour", "score"}  # all scores are equal
