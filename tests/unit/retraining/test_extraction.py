"""The training set is read from Delta tables in a folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from services.model_registry.model_inputs import InputKind, Inputs
from services.monitoring import inference_log
from services.monitoring.label_definition import label_definition
from services.retraining import extraction
from services.retraining.errors import InvalidDataError
from services.retraining.extraction import Wanted
from services.retraining.training_set import TrainingSet
from services.runtime.declaration import DAY_MS, HOUR_MS, ModelDeclaration
from services.runtime.settings import Settings
from streams import feature_sets
from streams.feature_sets import FeatureSets
from tests.unit.retraining.archived_rows import MODEL, archive, outcome, prediction
from tests.unit.retraining.training_data import declaration

GIVEN = {"x": InputKind.NUMBER, "carrier": InputKind.TEXT}
HORIZON_MS = 100
"""A label comes at the end of its horizon, see `archived_rows.outcome`."""
DECLARATION = declaration("label", horizon_hours=HORIZON_MS / HOUR_MS)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


def read(
    settings: Settings,
    given: Inputs,
    known_ms: int,
    sets: FeatureSets | None = None,
    definitions: Mapping[str, str] | None = None,
    declared: ModelDeclaration = DECLARATION,
) -> TrainingSet:
    wanted = Wanted(declared, given, known_ms, sets or FeatureSets(), definitions or {})
    return extraction.read(settings, wanted)


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
    data = read(settings, GIVEN, 120)

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
    data = read(settings, GIVEN, 1000)

    assert data.features["x"].tolist() == [1.0]
    assert data.labels.tolist() == [0]


def test_a_label_belongs_to_the_prediction_with_which_drift_has_joined_it(settings: Settings):
    """Of two predictions with one id, the outcome has the event time of the one that counts."""
    archive(
        settings,
        [prediction("a", 10, [1, "UA"]), prediction("a", 11, [2, "UA"])],
        [outcome("a", 11, 0.0)],
    )
    data = read(settings, GIVEN, 1000)

    assert data.event_times_ms.tolist() == [11]
    assert data.features["x"].tolist() == [2.0]


def test_the_last_label_within_the_horizon_counts(settings: Settings):
    first = replace(outcome("a", 10, 1.0), label_time_ms=20)
    second = replace(first, label=0.0, label_time_ms=50, correction=1, corrected_label=1.0)
    late = replace(second, label=1.0, correction=2, corrected_label=0.0, label_time_ms=10 + HORIZON_MS + 1)
    archive(settings, [prediction("a", 10, [1, "UA"])], [first, second, late])
    assert read(settings, GIVEN, 1000).labels.tolist() == [0.0]


def test_a_row_whose_label_may_still_come_or_change_is_not_taken(settings: Settings):
    """Labels of one class may come early: the last days would hold that class alone."""
    early = replace(outcome("b", 11), label_time_ms=12)
    archive(
        settings, [prediction("a", 10, [1, "UA"]), prediction("b", 11, [1, "UA"])], [outcome("a", 10), early]
    )
    wanted = Wanted(DECLARATION, GIVEN, 10 + HORIZON_MS)
    description = extraction.extract(settings, wanted, settings.home / "rows.parquet")
    assert (description.version.rows, description.immature) == (1, 1)
    with pytest.raises(
        InvalidDataError, match=r"none of 1 labelled predictions is older than label\.horizon"
    ):
        read(settings, GIVEN, 9 + HORIZON_MS)


def test_a_label_dated_before_its_request_costs_only_its_row(settings: Settings):
    archive(
        settings,
        [prediction(key, 10, [1, "UA"]) for key in ("a", "b")],
        [outcome("a", 10), replace(outcome("b", 10), label_time_ms=9)],
    )
    data = read(settings, GIVEN, 1000)
    assert (data.rows["prediction_id"].tolist(), data.left_out_by["other_labels"]) == (["a"], 1)


def test_a_number_in_a_text_feature_costs_only_its_row(settings: Settings):
    archive(
        settings,
        [prediction("a", 10, [1, "UA"]), prediction("b", 10, [1, 7])],
        [outcome("a", 10), outcome("b", 10)],
    )
    data = read(settings, GIVEN, 1000)
    assert (data.rows["prediction_id"].tolist(), data.left_out) == (["a"], 1)
    assert data.left_out_by["number_in_text"] == 1


def archive_days(settings: Settings, days: int) -> None:
    """A row each six hours."""
    times_ms = [number * DAY_MS // 4 for number in range(days * 4)]
    archive(
        settings,
        [prediction(f"p{time_ms}", time_ms, [1, "UA"]) for time_ms in times_ms],
        [outcome(f"p{time_ms}", time_ms) for time_ms in times_ms],
    )


def test_caps_by_days_and_by_rows_keep_the_latest(settings: Settings):
    archive_days(settings, 10)

    def found(**caps: float) -> list[int]:
        retraining = DECLARATION.retraining.model_copy(update=caps)
        declared = DECLARATION.model_copy(update={"retraining": retraining})
        data = read(settings, GIVEN, 20 * DAY_MS, declared=declared)
        return list(map(int, data.event_times_ms))

    everything = found()
    assert len(everything) == 40
    assert found(max_rows=7) == everything[-7:]
    assert found(max_days=2) == everything[-9:]
    assert found(max_days=2, max_rows=3) == everything[-3:]


def test_what_came_since_a_change_is_enough_to_train_on_or_all_is_taken(settings: Settings):
    archive_days(settings, 10)
    changes = {"window": "since_change", "holdout_days": 2, "minimum_labels": 12}
    declared = DECLARATION.model_copy(
        update={"retraining": DECLARATION.retraining.model_copy(update=changes)}
    )

    def rows(change_ms: int) -> int:
        wanted = Wanted(declared, GIVEN, 20 * DAY_MS, change_ms=change_ms)
        return extraction.read(settings, wanted).version.rows

    assert rows(5 * DAY_MS) == 20, "of these, twelve are before the held-out days"
    assert rows(5 * DAY_MS + 1) == 40


def test_a_window_that_training_chooses_leaves_the_rows_to_the_caps(settings: Settings):
    archive_days(settings, 10)

    def found(**changes: Any) -> TrainingSet:
        retraining = {"window": "auto", "holdout_days": 2, "minimum_labels": 12, **changes}
        declared = DECLARATION.model_copy(
            update={"retraining": DECLARATION.retraining.model_copy(update=retraining)}
        )
        return extraction.read(settings, Wanted(declared, GIVEN, 20 * DAY_MS, change_ms=5 * DAY_MS))

    assert found().version.rows == 40
    assert found(max_days=2).version.rows == 9
    assert found(max_rows=7).version.rows == 7


def test_an_id_of_two_requests_has_a_row_for_each_that_has_an_outcome(settings: Settings):
    """Those that were asked again within the horizon have none."""
    times_ms = (10, 11, 900)
    archive(
        settings,
        [prediction("a", time_ms, [time_ms, "UA"]) for time_ms in times_ms],
        [outcome("a", 10, 0.0), outcome("a", 900, 1.0)],
    )
    data = read(settings, GIVEN, 1000)

    assert (data.event_times_ms.tolist(), data.labels.tolist()) == ([10, 900], [0, 1])
    assert data.features["x"].tolist() == [10.0, 900.0]


def test_of_two_requests_of_one_time_the_outcome_tells_which_counts(settings: Settings):
    asked = [replace(prediction("a", 10, [version, "UA"]), version=version) for version in (1, 2)]
    archive(settings, asked, [replace(outcome("a", 10), version=2)])
    data = read(settings, GIVEN, 1000)

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
    data = read(settings, GIVEN, 1000)
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
    data = read(settings, given, 1000, sets, now.definitions)
    assert data.rows["prediction_id"].tolist() == ["now", "unknown"]
    assert (data.left_out, data.left_out_by) == (1, {"unnamed": 0, "other_features": 1, "other_labels": 0})
    assert data.definitions_unknown == 1
    with pytest.raises(InvalidDataError, match="none of 3 rows has its features as the feature views define"):
        read(settings, {"carrier": InputKind.TEXT}, 1000, FeatureSets([before]), {"x": "?"})


def test_no_row_with_known_names_is_an_error(settings: Settings):
    archive(settings, [prediction("a", 10, [1])], [outcome("a", 10)])
    with pytest.raises(InvalidDataError, match="none of 1 rows has features whose names are known"):
        read(settings, GIVEN, 1000)


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
    data = read(settings, given, 1000, FeatureSets([first, second]))
    assert data.features["rate"].tolist() == [0.5, 0.6, 0.7]
    assert data.features["carrier"].tolist() == ["AA", "UA", "DL"]
    np.testing.assert_array_equal(data.features["income"].to_numpy(), [np.nan, np.nan, 1000])


def test_labels_of_another_definition_and_after_the_horizon_are_left_out(settings: Settings):
    fits = label_definition(DECLARATION)
    late_ms = HORIZON_MS + 11
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
    data = read(settings, GIVEN, 2 * late_ms)
    assert data.rows["prediction_id"].tolist() == ["before definitions", "fits"]
    assert data.left_out == 2


def test_a_feature_that_is_missing_in_all_rows_keeps_its_declared_type(settings: Settings):
    archive(settings, [prediction("a", 10, [None, None])], [outcome("a", 10)])
    data = read(settings, GIVEN, 1000)
    assert [str(kind) for kind in data.features.dtypes] == ["float64", "object"]
    assert data.text == ["carrier"]


def test_nothing_to_train_on_is_said(settings: Settings):
    with pytest.raises(InvalidDataError, match="no table outcomes, predictions"):
        read(settings, GIVEN, 1000)
    archive(settings, [prediction("a", 10, [1, "UA"])], [])
    with pytest.raises(InvalidDataError, match="no prediction has a label"):
        read(settings, GIVEN, 1000)


def test_same_data_has_the_same_digest_and_other_labels_another(settings: Settings, tmp_path: Path):
    archive(settings, [prediction("a", 10, [1, "UA"])], [outcome("a", 10, 1.0)])
    other = Settings(home=tmp_path / "other")
    archive(other, [prediction("a", 10, [1, "UA"])], [outcome("a", 10, 0.0)])
    digests = [read(each, GIVEN, 1000).version.sha256 for each in (settings, settings, other)]

    assert digests[0] == digests[1] != digests[2]


def test_a_version_whose_files_were_erased_is_said_to_be_gone(settings: Settings):
    archive(settings, [prediction("a", 10, [1.0, "UA"])], [outcome("a", 10)])
    wanted = Wanted(DECLARATION, GIVEN, 120, FeatureSets(), {}, tables=inference_versions(settings))
    assert extraction.read(settings, wanted).version.rows == 1
    for path in Path(settings.archive_root).glob("predictions/*/*.parquet"):
        path.unlink()
    with pytest.raises(
        InvalidDataError, match="of the table predictions lacks 1 files and can be read no more"
    ):
        extraction.read(settings, wanted)


def inference_versions(settings: Settings) -> dict[str, int]:
    opened = inference_log.tables(settings)
    return {name: table.version() for name, table in opened.items() if name != inference_log.EVENTS}


ABSENT = declaration("label", horizon_hours=HORIZON_MS / HOUR_MS, absent=0)
"""Labels are 1 above 15, so 0 means 0."""


def taken(settings: Settings, known_ms: int) -> dict[str, float]:
    """Return the label of each row that is taken where absent labels mean 0."""
    data = read(settings, GIVEN, known_ms, declared=ABSENT)
    assert data.rows["label_time_ms"].max() <= known_ms
    return dict(zip(data.rows["prediction_id"], data.labels.tolist(), strict=True))


def frauds(settings: Settings, *times_ms: int, last_label_ms: int = 500) -> None:
    """Archive predictions at 10, 20, ... 90, frauds at the given times, and a label that is known last."""
    predictions = [prediction(str(time_ms), time_ms, [1, "UA"]) for time_ms in range(10, 100, 10)]
    last = replace(outcome("other", 400), label_time_ms=last_label_ms)
    outcomes = [replace(outcome(str(time_ms), time_ms), label_time_ms=time_ms + 5) for time_ms in times_ms]
    archive(settings, [*predictions, prediction("other", 400, [1, "UA"])], [*outcomes, last])


def test_a_mature_row_without_a_label_has_the_declared_one(settings: Settings):
    frauds(settings, 20, 70)
    assert taken(settings, 150) == {"10": 0, "20": 1, "30": 0, "40": 0, "50": 0}
    assert sum(taken(settings, 200).values()) == 2  # of 9 predictions


def test_absence_is_known_only_up_to_the_last_label_that_was_joined(settings: Settings):
    """Where drift is late, labels of later times may have been written that nobody has joined so far."""
    frauds(settings, 20, 70, last_label_ms=130)
    assert taken(settings, 10_000) == {"10": 0, "20": 1, "30": 0}


def test_a_label_after_the_horizon_corrects_the_implied_one_from_its_time_on(settings: Settings):
    chargeback = replace(
        outcome("10", 10), label_time_ms=10 + HORIZON_MS + 50, correction=1, corrected_label=0.0
    )
    last = replace(outcome("other", 400), label_time_ms=500)
    archive(
        settings, [prediction("10", 10, [1, "UA"]), prediction("other", 400, [1, "UA"])], [chargeback, last]
    )
    assert taken(settings, 159) == {"10": 0}
    assert taken(settings, 160) == {"10": 1}


def test_a_request_that_was_asked_again_has_no_label_of_its_own(settings: Settings):
    repeated = [prediction("a", time_ms, [time_ms, "UA"]) for time_ms in (10, 40, 10 + 3 * HORIZON_MS)]
    labelled = [prediction("b", time_ms, [time_ms, "UA"]) for time_ms in (20, 30)]
    last = replace(outcome("other", 4000), label_time_ms=5000)
    archive(
        settings,
        [*repeated, *labelled, prediction("other", 4000, [1, "UA"])],
        [replace(outcome("b", 30), label_time_ms=31), last],
    )
    data = read(settings, GIVEN, 5000, declared=ABSENT)
    rows = list(zip(data.event_times_ms.tolist(), data.labels.tolist(), strict=True))
    assert rows == [(10, 0), (30, 1), (10 + 3 * HORIZON_MS, 0)]
