"""The training set is read from Delta tables in a folder."""

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from services.model_registry.model_inputs import InputKind
from services.monitoring.label_definition import label_definition
from services.retraining import dataset
from services.retraining.errors import ArchiveBehindError, InvalidDataError
from services.runtime.declaration import DAY_MS
from services.runtime.settings import Settings
from streams import feature_sets, topics
from streams.feature_sets import FeatureSets
from tests.unit.retraining import training_data
from tests.unit.retraining.archived_rows import MODEL, archive, outcome, prediction
from tests.unit.retraining.training_data import DECLARATION, request

GIVEN = {"x": InputKind.NUMBER, "carrier": InputKind.TEXT}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


def test_rows_are_what_was_served_and_known_at_the_time_in_order(settings: Settings):
    archive(
        settings,
        [
            prediction("b", 20, [2, "UA"]),
            prediction("a", 10, [None, None]),
            prediction("late", 30, [1.5, "AA"]),
        ],
        [outcome("late", 30), outcome("a", 10, 0.0), outcome("b", 20)],
    )
    data = dataset.read(settings, DECLARATION, GIVEN, known_ms=120)

    assert data.rows["prediction_id"].tolist() == ["a", "b"]
    assert data.labels.tolist() == [0, 1]
    np.testing.assert_array_equal(data.features["x"].to_numpy(), [np.nan, 2.0])
    assert data.features["carrier"].tolist() == [None, "UA"]
    assert (data.text, data.numeric) == (["carrier"], ["x"])
    assert data.version.rows == 2
    assert (data.version.first_event_ms, data.version.last_event_ms) == (10, 20)


def test_first_prediction_and_first_label_of_an_id_count(settings: Settings):
    archive(
        settings,
        [prediction("a", 10, [1, "UA"]), prediction("a", 11, [2, "UA"])],
        [outcome("a", 10, 0.0), outcome("a", 12, 1.0)],
    )
    data = dataset.read(settings, DECLARATION, GIVEN, known_ms=1000)

    assert data.features["x"].tolist() == [1.0]
    assert data.labels.tolist() == [0]


def test_a_label_belongs_to_the_prediction_with_which_drift_has_joined_it(settings: Settings):
    """Of two predictions with one id, the outcome has the event time of the one that counts."""
    archive(
        settings,
        [prediction("a", 10, [1, "UA"]), prediction("a", 11, [2, "UA"])],
        [outcome("a", 11, 0.0)],
    )
    data = dataset.read(settings, DECLARATION, GIVEN, known_ms=1000)

    assert data.event_times_ms.tolist() == [11]
    assert data.features["x"].tolist() == [2.0]


def test_a_corrected_label_is_read_as_it_was_known_at_the_time(settings: Settings):
    first = outcome("a", 10, 1.0)
    second = replace(first, label=0.0, label_time_ms=500, correction=1, corrected_label=1.0)
    third = replace(second, label=1.0, correction=2, corrected_label=0.0, label_time_ms=600)
    archive(settings, [prediction("a", 10, [1, "UA"])], [first, second, third])

    def labels(known_ms: int):
        return dataset.read(settings, DECLARATION, GIVEN, known_ms).rows["label"].tolist()

    assert [labels(known_ms) for known_ms in (499, 500, 599, 600)] == [[1.0], [0.0], [0.0], [1.0]]


def test_an_id_of_two_requests_has_a_row_for_each_that_has_an_outcome(settings: Settings):
    """Those that were asked again within the horizon have none."""
    times_ms = (10, 11, 900)
    archive(
        settings,
        [prediction("a", time_ms, [time_ms, "UA"]) for time_ms in times_ms],
        [outcome("a", 10, 0.0), outcome("a", 900, 1.0)],
    )
    data = dataset.read(settings, DECLARATION, GIVEN, known_ms=1000)

    assert (data.event_times_ms.tolist(), data.labels.tolist()) == ([10, 900], [0, 1])
    assert data.features["x"].tolist() == [10.0, 900.0]


def test_of_two_requests_of_one_time_the_outcome_tells_which_counts(settings: Settings):
    asked = [replace(prediction("a", 10, [version, "UA"]), version=version) for version in (1, 2)]
    archive(settings, asked, [replace(outcome("a", 10), version=2)])
    data = dataset.read(settings, DECLARATION, GIVEN, known_ms=1000)

    assert data.features["x"].tolist() == [2.0]


def test_rows_whose_names_are_not_known_are_left_out_and_counted(settings: Settings):
    archive(
        settings,
        [
            prediction("short", 10, [1]),
            prediction("unknown", 10, [1, "UA"], "ffffffffffff"),
            prediction("a", 10, [1, "UA"]),
        ],
        [outcome(key, 10) for key in ("short", "unknown", "a")],
    )
    data = dataset.read(settings, DECLARATION, GIVEN, known_ms=1000)
    assert (data.rows["prediction_id"].tolist(), data.left_out) == (["a"], 2)


def test_rows_with_another_definition_of_a_feature_are_left_out_and_counted(settings: Settings):
    """An added feature changes no definition; what is not known of older rows does not exclude them."""
    names, text = ["x", "carrier"], ["carrier"]
    unknown = feature_sets.feature_set(MODEL, names, text)
    before = feature_sets.feature_set(MODEL, names, text, {"x": "sum of 1 h"})
    now = feature_sets.feature_set(MODEL, [*names, "added"], text, {"x": "sum of 3 h", "added": "count"})
    sets = FeatureSets([unknown, before, now])
    assert len({each.digest for each in (unknown, before, now)}) == 3
    archive(
        settings,
        [
            prediction("unknown", 10, [1, "UA"], unknown.digest),
            prediction("before", 10, [1, "UA"], before.digest),
            prediction("now", 10, [3, "UA", 2], now.digest),
        ],
        [outcome(key, 10) for key in ("unknown", "before", "now")],
    )
    given = GIVEN | {"added": InputKind.NUMBER}
    data = dataset.read(settings, DECLARATION, given, 1000, sets, now.definitions)
    assert data.rows["prediction_id"].tolist() == ["now", "unknown"]
    assert (data.left_out, data.left_out_by) == (1, {"unnamed": 0, "other_features": 1, "other_labels": 0})
    assert data.definitions_unknown == 1
    with pytest.raises(InvalidDataError, match="none of 3 rows has its features as the feature views define"):
        dataset.read(
            settings, DECLARATION, {"carrier": InputKind.TEXT}, 1000, FeatureSets([before]), {"x": "?"}
        )


def test_no_row_with_known_names_is_an_error(settings: Settings):
    archive(settings, [prediction("a", 10, [1])], [outcome("a", 10)])
    with pytest.raises(InvalidDataError, match="none of 1 rows has features whose names are known"):
        dataset.read(settings, DECLARATION, GIVEN, known_ms=1000)


def test_features_are_aligned_by_name_over_all_history(settings: Settings):
    first = feature_sets.feature_set(MODEL, ["age", "carrier", "rate"], ["carrier"])
    second = feature_sets.feature_set(MODEL, ["rate", "carrier", "income"], ["carrier"])
    archive(
        settings,
        [
            prediction("before names", 10, [30, "AA", 0.5]),
            prediction("named", 11, [31, "UA", 0.6], first.digest),
            prediction("exchanged", 12, [0.7, "DL", 1000], second.digest),
        ],
        [outcome(key, time) for key, time in (("before names", 10), ("named", 11), ("exchanged", 12))],
    )
    given = {"rate": InputKind.NUMBER, "carrier": InputKind.TEXT, "income": InputKind.NUMBER}
    data = dataset.read(settings, DECLARATION, given, 1000, FeatureSets([first, second]))
    assert data.features["rate"].tolist() == [0.5, 0.6, 0.7]
    assert data.features["carrier"].tolist() == ["AA", "UA", "DL"]
    np.testing.assert_array_equal(data.features["income"].to_numpy(), [np.nan, np.nan, 1000])


def test_labels_of_another_definition_and_after_the_horizon_are_left_out(settings: Settings):
    fits = label_definition(DECLARATION)
    late_ms = DECLARATION.label.horizon_ms + 11
    outcomes = [
        outcome("before definitions", 10),
        replace(outcome("fits", 11), definition=fits),
        replace(outcome("other", 12), definition="ffffffff"),
        replace(outcome("late", 13), definition=fits, label_time_ms=13 + late_ms),
    ]
    archive(
        settings,
        [prediction(each.prediction_id, each.event_time_ms, [1, "UA"]) for each in outcomes],
        outcomes,
    )
    data = dataset.read(settings, DECLARATION, GIVEN, known_ms=2 * late_ms)
    assert data.rows["prediction_id"].tolist() == ["before definitions", "fits"]
    assert data.left_out == 2


def test_a_feature_that_is_missing_in_all_rows_keeps_its_declared_type(settings: Settings):
    archive(settings, [prediction("a", 10, [None, None])], [outcome("a", 10)])
    data = dataset.read(settings, DECLARATION, GIVEN, known_ms=1000)
    assert [str(kind) for kind in data.features.dtypes] == ["float64", "object"]
    assert data.text == ["carrier"]


def test_nothing_to_train_on_is_said(settings: Settings):
    with pytest.raises(InvalidDataError, match="no table outcomes, predictions"):
        dataset.read(settings, DECLARATION, GIVEN, known_ms=1000)
    archive(settings, [prediction("a", 10, [1, "UA"])], [])
    with pytest.raises(InvalidDataError, match="no prediction has a label"):
        dataset.read(settings, DECLARATION, GIVEN, known_ms=1000)


def test_what_came_since_a_change_is_enough_to_train_on_or_all_is_taken():
    data = training_data.training_set(1000)
    retraining = training_data.declaration(holdout_days=2, minimum_labels=300).retraining
    from_ms = (
        training_data.NOW_MS - 6 * DAY_MS
    )  # of ten days, five are left, three of them before the held-out ones
    found = dataset.since_change(data, from_ms, retraining)
    assert len(found.rows) == len(found.features) == found.version.rows == 500
    assert found.version.first_event_ms == found.rows["event_time_ms"].min() == from_ms
    assert found.rows["prediction_id"][0] == data.rows["prediction_id"][500]
    assert found.version.sha256 != data.version.sha256
    assert dataset.since_change(data, from_ms + DAY_MS, retraining) is data


def test_same_data_has_the_same_digest_and_other_labels_another(settings: Settings, tmp_path: Path):
    archive(settings, [prediction("a", 10, [1, "UA"])], [outcome("a", 10, 1.0)])
    other = Settings(home=tmp_path / "other")
    archive(other, [prediction("a", 10, [1, "UA"])], [outcome("a", 10, 0.0)])
    digests = [
        dataset.read(each, DECLARATION, GIVEN, 1000).version.sha256 for each in (settings, settings, other)
    ]

    assert digests[0] == digests[1] != digests[2]


def test_archive_that_is_behind_is_named_with_what_it_lacks(settings: Settings):
    archive(settings, [prediction("a", 10, [1, "UA"])], [])

    with pytest.raises(ArchiveBehindError, match=r"predictions\.arrival_delay/1 from offset 0 to 4"):
        dataset.wait_for_archive(settings, MODEL, {topics.predictions(MODEL): [1, 4]}, seconds_max=0)


def test_archive_that_holds_all_is_not_waited_for(settings: Settings):
    archive(settings, [prediction("a", 10, [1, "UA"])], [])

    dataset.wait_for_archive(settings, MODEL, {topics.predictions(MODEL): [1]}, seconds_max=0)


def test_request_without_offsets_wants_the_ends():
    ends = {topics.predictions(MODEL): [1], topics.outcomes(MODEL): []}

    assert dataset.wanted_offsets(request(), lambda _: ends) == ends


def test_request_wants_its_own_offsets_of_what_is_archived():
    asked = replace(request(), offsets={topics.predictions(MODEL): [1, 4], "others": [9]})

    assert dataset.wanted_offsets(asked, lambda _: {}) == {topics.predictions(MODEL): [1, 4]}
