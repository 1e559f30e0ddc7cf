"""A training set is the same after it was written and read, and its digest tells whether it is."""

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.model_registry.model_inputs import InputKind
from services.retraining import training_set
from services.retraining.training_set import DataDescription, ParquetFile

GIVEN = {"x": InputKind.NUMBER, "word": InputKind.TEXT, "at": InputKind.TIME}
NOON = dt.datetime(2024, 3, 1, 12, tzinfo=dt.timezone(dt.timedelta(hours=2)))
ROWS: Mapping[str, Any] = {
    "prediction_id": np.array(["a", "b", "c"], dtype=object),
    "event_time_ms": np.array([10, 20, 30]),
    "label_time_ms": np.array([11, 21, 31]),
    "label": np.array([0.0, 1.0, 2.5]),
}
FEATURES: Mapping[str, Any] = {
    "x": np.array([1.5, np.nan, -0.0]),
    "word": np.array(["red", None, ""], dtype=object),
    "at": np.array([NOON, None, NOON.replace(year=1)], dtype=object),
}


def written(
    path: Path, rows: Mapping[str, Any] = ROWS, features: Mapping[str, Any] = FEATURES, size: int = 3
):
    with ParquetFile(path, GIVEN) as file:
        for start in range(0, 3, size):
            part = slice(start, start + size)
            file.write({k: v[part] for k, v in rows.items()}, {k: v[part] for k, v in features.items()})
    return file.version({"predictions": 7})


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    version = written(tmp_path / "rows.parquet")
    found = training_set.read(
        tmp_path / "rows.parquet", DataDescription(version=version, text=["word"], times=["at"])
    )
    assert {name: found.rows[name].tolist() for name in ROWS} == {k: v.tolist() for k, v in ROWS.items()}
    np.testing.assert_array_equal(found.features["x"], FEATURES["x"])
    assert found.features["word"].tolist() == ["red", None, ""]
    assert found.features["at"].tolist() == FEATURES["at"].tolist()
    assert (found.numeric, found.text, list(found.times)) == (["x"], ["word"], ["at"])
    assert found.labels.tolist() == [0, 1, 2.5]
    assert (version.rows, version.first_event_ms, version.last_event_ms) == (3, 10, 30)


def test_the_digest_does_not_depend_on_slices_or_on_the_offset_of_a_time(tmp_path: Path) -> None:
    same = {**FEATURES, "at": np.array([NOON.astimezone(dt.UTC), None, FEATURES["at"][2]], dtype=object)}
    digests = {
        written(tmp_path / f"{size}.parquet", features=given, size=size).sha256
        for size in (1, 2, 3)
        for given in (FEATURES, same)
    }
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("x", [1.5, np.nan, 0.5]),
        ("x", [1.5, 0.0, 0.0]),
        ("word", ["red", "", None]),
        ("word", ["re", "d", ""]),
        ("at", [NOON, NOON, None]),
        ("label", [0.0, 1.0, 2.0]),
        ("prediction_id", ["a", "b", "d"]),
        ("event_time_ms", [10, 20, 31]),
        ("label_time_ms", [11, 22, 31]),
    ],
)
def test_the_digest_changes_with_any_value(tmp_path: Path, name: str, values: list[Any]) -> None:
    before = written(tmp_path / "before.parquet").sha256
    source = ROWS if name in ROWS else FEATURES
    changed = {**source, name: np.array(values, dtype=source[name].dtype)}
    rows, features = (changed, FEATURES) if name in ROWS else (ROWS, changed)
    assert written(tmp_path / "after.parquet", rows, features).sha256 != before


def test_rows_are_taken_together(tmp_path: Path) -> None:
    version = written(tmp_path / "rows.parquet")
    data = training_set.read(tmp_path / "rows.parquet", DataDescription(version=version, text=["word"]))
    taken = data.take(np.array([False, True, True]))
    assert taken.rows["prediction_id"].tolist() == ["b", "c"]
    assert taken.features.index.tolist() == [0, 1]
    assert data.take(np.ones(3, dtype=np.bool_)) is data


def test_slices_hold_all_rows(tmp_path: Path) -> None:
    written(tmp_path / "rows.parquet", size=1)
    assert sum(batch.num_rows for batch in training_set.slices(tmp_path / "rows.parquet")) == 3
