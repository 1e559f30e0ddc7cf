import numpy as np

from services.retraining.validation_schemas import bad_rows, crowded
from tests.unit.retraining.training_data import NOW_MS, declaration, training_set


def test_every_check_names_its_rows_once():
    data = training_set(100)
    data.rows.loc[3, "label_time_ms"] = 0
    data.rows.loc[8, ["prediction_id", "event_time_ms"]] = data.rows.loc[
        7, ["prediction_id", "event_time_ms"]
    ]
    data.features.loc[5, "x"] = np.inf
    found = {each.column: each.rows.tolist() for each in bad_rows(data, declaration(), NOW_MS) if each.column}
    wide = [each for each in bad_rows(data, declaration(), NOW_MS) if not each.column]

    assert found == {"x": [5]}
    assert sorted(each.rows.tolist() for each in wide) == [[3], [8]]


def test_sound_rows_have_no_faults():
    assert bad_rows(training_set(), declaration(), NOW_MS) == []


def test_ids_are_no_categories():
    data = training_set(2000)
    data.features["colour"] = data.rows["prediction_id"].astype(object)

    assert crowded(data) == ["colour"]
    assert crowded(training_set()) == []
