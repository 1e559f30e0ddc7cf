import dataclasses

import numpy as np
import pytest

from services.monitoring import reference
from services.retraining.errors import InvalidDataError
from services.retraining.training_set import TrainingSet
from services.retraining.validation import check, validate
from services.retraining.validation_report import ValidationReport
from services.runtime.declaration import ModelDeclaration, QualityBounds
from streams.records import Reference
from tests.unit.retraining import task_models
from tests.unit.retraining.training_data import NOW_MS, declaration, training_set

FEW = declaration(minimum_labels=100)


def faults(data: TrainingSet, known_ms: int = NOW_MS) -> str:
    with pytest.raises(InvalidDataError) as caught:
        validate(data, FEW, known_ms)
    return str(caught.value)


def changed(column: str, row: slice, value: float | str) -> TrainingSet:
    data = training_set()
    data.rows.loc[data.rows.index[row], column] = value
    return data


def test_sound_data_passes():
    validate(training_set(), FEW, NOW_MS)


def test_too_few_rows_are_counted():
    assert "60 rows, but retraining.minimum_labels is 100" in faults(training_set(60))


def test_label_that_is_neither_0_nor_1_is_shown():
    assert "label is neither 0 nor 1 in 3 rows (such as 7.0)" in faults(changed("label", slice(0, 3), 7.0))


def test_labels_of_one_kind_only_are_refused():
    assert "label: 100.00% of the rows are positive" in faults(changed("label", slice(None), 1.0))


def test_request_that_occurs_twice_is_shown():
    data = changed("prediction_id", slice(0, 2), "p5")
    data.rows.loc[0:2, "event_time_ms"] = 7

    assert "occurs more than once in 1 rows (such as 'p5')" in faults(data)


def test_id_that_is_used_again_after_the_horizon_is_another_request():
    validate(changed("prediction_id", slice(0, 2), "p5"), FEW, NOW_MS)


def test_label_from_after_the_request_is_refused():
    data = training_set()
    late = int(data.rows["label_time_ms"].iloc[-2])

    assert "label_time_ms is later than the request for retraining in 1 rows" in faults(data, late)


def test_label_outside_its_horizon_is_refused():
    data = training_set()
    data.rows.loc[:3, "label_time_ms"] = data.rows["event_time_ms"] - 1

    assert "label_time_ms is not within 48 hours after event_time_ms in 4 rows" in faults(data)


def test_infinite_number_is_refused_and_a_missing_one_is_not():
    data = training_set()
    data.features.loc[:4, "x"] = np.nan
    validate(data, FEW, NOW_MS)
    data.features.loc[:4, "x"] = -np.inf

    assert "x is infinite in 5 rows (such as -inf)" in faults(data)


def test_number_among_texts_is_refused():
    data = training_set()
    data.features.loc[:1, "colour"] = 3.0

    assert "colour is a number where others are text in 2 rows" in faults(data)


def test_id_that_poses_as_a_category_is_refused():
    data = training_set(2000)
    ids = data.features.assign(colour=data.rows["prediction_id"].astype(object))

    assert "colour has more than 1000 categories" in faults(dataclasses.replace(data, features=ids))


def test_all_faults_come_at_once():
    data = changed("label", slice(0, 3), 7.0)
    data.features.loc[:4, "x"] = np.inf

    assert faults(data).count(";") == 1


def quality(**bounds) -> ModelDeclaration:
    """Return a declaration that expects nulls of colour, and these bounds of x."""
    nulls = QualityBounds(null_share_max=0.5)
    declared = declaration("monitoring", quality={"colour": nulls, "x": QualityBounds(**bounds)})
    return declared.model_copy(update={"retraining": FEW.retraining})


def checks(report: ValidationReport) -> list[tuple[str, str, int]]:
    return [(each.level, each.check, each.rows) for each in report.findings]


def test_few_bad_rows_are_dropped_and_counted():
    data = training_set(2000)
    data.features.loc[:1, "x"] = np.inf
    data.rows.loc[5, "label"] = 7.0
    found = check(data, quality(), NOW_MS)

    assert found.report.passed
    assert np.flatnonzero(~found.kept).tolist() == [0, 1, 5]
    assert sorted(checks(found.report)) == [("dropped", "row", 1), ("dropped", "row", 2)]
    found.require()


def test_many_bad_rows_stop_the_run():
    data = training_set(2000)
    data.features.loc[:99, "x"] = np.inf
    found = check(data, quality(), NOW_MS)

    assert found.report.rows_dropped == 100
    with pytest.raises(
        InvalidDataError, match=r"100 of 2000 rows are bad, but retraining\.bad_rows_max is 0\.01: x "
    ):
        found.require()


def test_values_beyond_the_declared_bounds_are_bad():
    data = training_set(2000)
    x = data.features["x"]
    beyond = (x > 3) | (x < -2.9)
    found = check(data, quality(min=-2.9, max=3), NOW_MS)

    assert found.kept.tolist() == (~beyond).tolist()
    assert beyond.any()


def test_values_that_are_not_allowed_are_bad():
    declared = declaration(
        "monitoring", quality={"colour": QualityBounds(allowed=("red",), null_share_max=0.5)}
    )
    found = check(training_set(), declared, NOW_MS)

    assert "colour is no allowed value" in found.report.faults[0]


def test_nulls_need_a_declaration():
    (fault,) = check(training_set(), FEW, NOW_MS).report.faults

    assert fault.startswith("colour is null in 3")
    assert "declare monitoring.quality.colour.null_share_max" in fault


@pytest.mark.parametrize(("task", "bad"), [("binary", 0.5), ("multiclass", 3.0), ("regression", np.inf)])
def test_labels_are_those_of_the_task(task: str, bad: float):
    data = training_set(1000)
    labels = task_models.rows(task, 1000)[1]
    labels[7] = bad
    data.rows["label"] = labels
    declared = task_models.declaration(
        task, monitoring={"quality": {"colour": {"null_share_max": 0.5}}}, features={"service": "any"}
    )
    found = check(data, declared.model_copy(update={"retraining": FEW.retraining}), NOW_MS)

    assert np.flatnonzero(~found.kept).tolist() == [7]
    assert found.report.passed


def test_every_class_needs_a_label_and_a_regression_different_ones():
    data = training_set(200)
    multiclass = task_models.declaration("multiclass")
    regression = task_models.declaration("regression")
    data.rows["label"] = np.resize([0.0, 1.0], 200)

    assert "label: no row has the class c" in "; ".join(check(data, multiclass, NOW_MS).report.faults)
    data.rows["label"] = 2.0
    assert "all 200 rows have the same value" in "; ".join(check(data, regression, NOW_MS).report.faults)


def test_a_leak_is_a_warning_for_the_gate():
    data = training_set(2000)
    data.features["x"] = data.rows["label"] + np.linspace(0, 0.1, 2000)
    found = check(data, quality(), NOW_MS)

    assert [each.feature for each in found.leaks] == ["x"]
    assert ("warning", "leak", 0) in checks(found.report)
    assert found.report.passed


def test_no_row_that_can_be_used_is_a_fault():
    data = training_set(100)
    data.rows["label"] = 7.0
    found = check(data, quality(), NOW_MS)

    assert not found.kept.any()
    assert not found.report.passed


def test_drift_from_the_reference_is_a_warning():
    data = training_set(2000)
    shifted = dataclasses.replace(data, features=data.features.assign(x=data.features["x"] + 2))
    found = check(shifted, quality(), NOW_MS, reference_of(data)).report

    assert found.passed
    assert checks(found) == [("warning", "drift", 0)]
    assert {each.feature: (each.psi or 0) > 0.1 for each in found.features} == {"x": True, "colour": False}


def reference_of(data: TrainingSet) -> Reference:
    x, colour = (data.features[name].to_numpy() for name in ("x", "colour"))
    return Reference(
        version=1,
        features=[reference.of_numbers("x", x), reference.of_categories("colour", colour)],
        score=None,
        log_loss=None,
    )
