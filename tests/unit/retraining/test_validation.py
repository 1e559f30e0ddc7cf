import dataclasses

import numpy as np
import pytest

from services.retraining.dataset import TrainingSet
from services.retraining.errors import InvalidDataError
from services.retraining.validation import validate
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

    assert "prediction_id occurs more than once in 2 rows (such as 'p5')" in faults(data)


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
