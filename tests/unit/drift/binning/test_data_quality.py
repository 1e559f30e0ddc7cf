"""Served values are checked against their declaration."""

import math

import pytest
from ruamel.yaml import YAML

from services.drift.binning import data_quality
from services.drift.binning.data_quality import Fault, FeatureRules, QualityRules
from services.drift.monitored_model import SNAPSHOTS
from services.runtime.declaration import DeclarationError, ModelDeclaration, QualityBounds
from services.runtime.declaration_file import load_named
from streams.codec import FieldType
from streams.inputs import LABEL, PREDICTION, PartitionKey
from tests.unit.drift import scenario
from tests.unit.drift.scenario import HOUR_MS, START_MS, Traffic

END_MS = START_MS + 12 * HOUR_MS

BOUNDS = {
    "x": {"min": -3, "max": 3, "null_share_max": 0.1},
    "colour": {"allowed": ["red", "green", "blue"], "invalid_share_max": 0.2},
}


def rules(bounds=None):
    declaration = scenario.declaration(quality=BOUNDS if bounds is None else bounds)
    return QualityRules(declaration, ["x", "colour", "of_feast"])


def faults_of(column, feature=0, bounds=None):
    _, rule = rules(bounds).rules[feature]
    return [Fault(int(fault)) for fault in rule.faults(column)]


def test_numbers_out_of_their_bounds_are_faults():
    assert faults_of([0.0, -3, 3.0, -3.01, 4, None, math.nan]) == [
        *[Fault.NONE] * 3,
        *[Fault.BELOW, Fault.ABOVE],
        *[Fault.NULL] * 2,
    ]


def test_values_of_another_type_than_declared_are_faults():
    assert faults_of([1.0, 2, "2", True]) == [Fault.NONE, Fault.NONE, Fault.TYPE, Fault.TYPE]
    assert faults_of(["red", 1.0, None], feature=1) == [Fault.NONE, Fault.NAME, Fault.NULL]


@pytest.mark.parametrize(
    ("kind", "column", "wrong"),
    [
        (FieldType.INT, [12.0, 12, None, 12.5, "12"], [3, 4]),
        (FieldType.BOOL, [True, 1.0, 0, None, 2.0, "yes"], [4, 5]),
    ],
)
def test_integers_and_booleans_may_be_served_as_doubles(kind, column, wrong):
    faults = FeatureRules("any", QualityBounds(), kind).faults(column)
    assert [index for index, fault in enumerate(faults) if fault == Fault.TYPE] == wrong


def test_names_that_are_not_allowed_are_faults():
    assert faults_of(["red", "mauve", None], feature=1) == [Fault.NONE, Fault.NAME, Fault.NULL]


def test_a_field_that_is_not_nullable_has_no_nulls():
    """This follows from the schema of the request, without any declared rule."""
    ruled = rules({})
    counts = data_quality.count_faults(
        ruled.faults([[1.0, None, 2.0], [None, "red", "red"], ["any", 1, None]])
    )
    evaluated = {each.feature: each for each in ruled.evaluate(counts.tolist())}
    assert evaluated["x"].nulls == 1
    assert evaluated["x"].broken
    assert not evaluated["colour"].broken
    assert "of_feast" not in evaluated


@pytest.mark.parametrize(("nulls", "broken"), [(1, False), (2, True)])
def test_more_nulls_than_declared_break_the_rule(nulls, broken):
    ruled = rules()
    columns = [[*[None] * nulls, *[0.0] * (10 - nulls)], ["red"] * 10, [None] * 10]
    found, *_ = ruled.evaluate(data_quality.count_faults(ruled.faults(columns)).tolist())
    assert (found.nulls, found.broken) == (nulls, broken)


def test_a_declared_share_of_values_may_be_invalid():
    ruled = rules()
    columns = [[0.0] * 5, ["red"] * 4 + ["mauve"], [None] * 5]
    _, found = ruled.evaluate(data_quality.count_faults(ruled.faults(columns)).tolist())
    assert (found.not_allowed, found.broken) == (1, False)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"x": {"min": 2, "max": 1}}, "min 2.0 is above max 1.0"),
        ({"x": {"min": 2, "allowed": ["a"]}}, "allowed cannot be combined with min or max"),
        ({"colour": {"max": 1}}, "min and max are not possible for a string"),
        ({"x": {"null_share_max": 2}}, "less than or equal to 1"),
    ],
)
def test_contradictory_bounds_are_refused(bounds, message):
    with pytest.raises(ValueError, match=message):
        ModelDeclaration.model_validate(scenario.document(quality=bounds))


def test_a_rule_for_an_unknown_feature_has_no_values():
    """The features of a Feast service are not known when the declaration is read."""
    ruled = rules({"temp": {"max": 1}})
    evaluated = ruled.evaluate(data_quality.count_faults(ruled.faults([[0.0], ["red"], [1]])).tolist())
    assert [(each.feature, each.values) for each in evaluated] == [("x", 1), ("colour", 1), ("temp", 0)]


def test_a_rule_for_an_unknown_feature_is_refused_if_all_features_are_request_fields():
    document = scenario.document(quality={"temp": {"max": 1}})
    document["features"]["service"] = ""
    with pytest.raises(ValueError, match="names 'temp', which is not a feature"):
        ModelDeclaration.model_validate(document)


def test_a_broken_rule_is_one_alarm_until_windows_are_calm():
    """Hours 2 and 3 of six have a value out of bounds; two calm windows resolve the alarm."""
    engine = scenario.new_engine(scenario.declaration(quality={"x": {"max": 3}}))
    log = [
        scenario.prediction(number, START_MS + number * HOUR_MS // 20, features=[x, "red"])
        for number, x in enumerate(5.0 if number in {45, 65} else number % 3 - 1.0 for number in range(120))
    ]
    outputs = scenario.play(
        engine, Traffic([scenario.numbered([*log, END_MS])], [scenario.numbered([END_MS])])
    )
    alarms = [alarm for alarm in scenario.alarms(outputs) if alarm.kind == "quality"]
    assert [(alarm.subject, alarm.detected_at_ms) for alarm in alarms] == [("x", START_MS + 3 * HOUR_MS)]
    assert alarms[0].message == (
        "x: this window has 20 values: 1 is above the maximum 3.0 "
        "(allowed: at most 0.0% null and 0.0% invalid)"
    )
    reports = scenario.reports(outputs)
    active = [any("quality" in alarm for alarm in report.alarms_standing or ()) for report in reports]
    assert active[:6] == [False, False, True, True, True, False]
    assert [next(each.above for each in report.quality if each.feature == "x") for report in reports[:4]] == [
        0,
        0,
        1,
        1,
    ]


def test_counts_survive_a_restart():
    engine = scenario.new_engine(scenario.declaration(quality={"x": {"max": 3}}))
    early = [scenario.prediction(number, START_MS + number, features=[9.0, "red"]) for number in range(3)]
    scenario.feed(engine, PREDICTION, 0, scenario.numbered([*early, START_MS + 1000]))
    scenario.feed(engine, LABEL, 0, scenario.numbered([START_MS + 1000]))
    engine.advance()
    state = SNAPSHOTS.decode(SNAPSHOTS.encode("m", "l", engine.state()), "m", "l")
    again = scenario.new_engine(scenario.declaration(quality={"x": {"max": 3}}), state=state)
    for kind, offset in ((PREDICTION, 4), (LABEL, 1)):
        again.inputs.add_heartbeat(PartitionKey(kind, 0), offset, END_MS)
    report = scenario.reports(again.advance())[0]
    assert next(each.above for each in report.quality if each.feature == "x") == 3


def test_an_unknown_setting_of_a_rule_is_reported_with_its_line(tmp_path):
    path = tmp_path / "m" / "model.yaml"
    path.parent.mkdir()
    document = scenario.document(quality={"x": {"mim": 1}})
    with path.open("w") as file:
        YAML().dump(document, file)
    with pytest.raises(DeclarationError) as caught:
        load_named(path)
    assert "monitoring.quality.x.mim: unknown setting (did you mean min?)" in str(caught.value)
    line = next(at for at, text in enumerate(path.read_text().splitlines(), 1) if "mim" in text)
    assert f"{path}:{line}:" in str(caught.value)
