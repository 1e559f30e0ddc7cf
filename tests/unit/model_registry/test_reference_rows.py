"""A file of rows becomes a reference with scores by the model itself; a file that is not one is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from services.model_registry import reference_rows, sealed_reference
from services.model_registry.model_import import ImportSource, seal
from services.model_registry.model_inputs import InputKind, Inputs
from services.model_registry.reference_rows import ReferenceFileError
from services.runtime.declaration import ModelDeclaration
from tests.unit.model_registry.installation import GIVEN, classifier, declaration, rows, settings

COUNT = 400


def frame(**columns: Any) -> pd.DataFrame:
    chance = np.random.default_rng(2)
    made = pd.DataFrame(
        {
            "x": chance.normal(size=COUNT),
            "colour": ["red", "blue", None, "red"] * (COUNT // 4),
            "noise": chance.normal(size=COUNT),
            "y": chance.normal(size=COUNT),
            "at": pd.date_range("2024-01-01", periods=COUNT, freq="h", tz="UTC"),
        }
    )
    return made.assign(**columns)


def saved(folder: Path, made: pd.DataFrame) -> Path:
    path = folder / "rows.parquet"
    made.to_parquet(path)
    return path


class Doubled:
    """A regression, or probabilities of three classes."""

    size_bytes = 1

    def __init__(self, *, classes: bool = False) -> None:
        self._classes = classes

    def predict(self, columns: Any) -> Any:
        x = columns["x"]
        if not self._classes:
            return 2 * x
        raised = np.exp(np.stack([x, -x, np.zeros(len(x))], axis=1))
        return raised / raised.sum(axis=1, keepdims=True)


def made_of(path: Path, declared: ModelDeclaration, model: Any, given: Inputs = GIVEN) -> Any:
    return reference_rows.read(path, declared, given).make(model, {"x": InputKind.NUMBER})


def test_sealed_version_holds_the_reference_that_its_own_scores_make(tmp_path: Path):
    import joblib

    (tmp_path / "model.joblib").touch()
    joblib.dump(classifier(), tmp_path / "model.joblib")
    rows().to_parquet(tmp_path / "proof.parquet")
    known = reference_rows.read(saved(tmp_path, frame()), declaration(), GIVEN)
    source = ImportSource(
        settings(tmp_path),
        str(tmp_path / "model.joblib"),
        tmp_path / "proof.parquet",
        known.make,
        allow_pickle=True,
    )
    tags = seal(source, declaration(), GIVEN, tmp_path / "version")
    found = sealed_reference.read(tmp_path / "version", 3)

    assert tags["driftline.reference"] == "yes"
    assert found is not None
    assert found.version == 3
    assert [each.feature for each in found.features] == list(GIVEN)
    assert sum(found.features[1].counts) == COUNT * 3 // 4
    assert found.score is not None
    scores = classifier().predict_proba(frame()[["x", "noise"]])[:, 1]
    assert found.score.edges is not None
    assert found.score.edges[0] == pytest.approx(scores.min())
    labels = (frame()["y"] > 0).to_numpy()
    expected = -np.log(np.where(labels, scores, 1 - scores)).mean()
    assert found.log_loss == pytest.approx(expected)
    assert found.measures["accuracy"] == pytest.approx(((scores >= 0.5) == labels).mean())


def test_reference_of_a_regression_has_predictions_and_errors(tmp_path: Path):
    made = made_of(saved(tmp_path, frame()), declaration("regression"), Doubled())
    errors = np.abs(2 * frame()["x"] - frame()["y"])
    assert made.log_loss is None
    assert made.prediction is None
    assert made.measures["absolute_error"] == pytest.approx(errors.mean())
    assert made.error_max == pytest.approx(np.quantile(errors, 0.99, method="inverted_cdf"))
    assert made.score.edges[-1] == pytest.approx(2 * frame()["x"].max())


def test_reference_of_a_multiclass_model_has_confidence_and_predicted_classes(tmp_path: Path):
    declared = declaration("multiclass", label=label_of_text())
    labels = np.array(["low", "middle", "high"])[np.arange(COUNT) % 3]
    made = made_of(saved(tmp_path, frame(y=labels)), declared, Doubled(classes=True))
    outputs = Doubled(classes=True).predict({"x": frame()["x"].to_numpy()})
    assert made.score.edges[0] == pytest.approx(outputs.max(axis=1).min())
    assert dict(zip(made.prediction.categories, made.prediction.counts, strict=True)) == {
        "low": int((outputs.argmax(axis=1) == 0).sum()),
        "middle": int((outputs.argmax(axis=1) == 1).sum()),
    }
    assert made.log_loss == pytest.approx(-np.log(outputs[np.arange(COUNT), np.arange(COUNT) % 3]).mean())
    assert made.score_sums["labels"] == made.score.counts


def test_without_labels_and_times_the_distributions_remain(tmp_path: Path):
    path = saved(tmp_path, frame().drop(columns=["y", "at"]))
    known = reference_rows.read(path, declaration(), GIVEN)
    made = made_of(path, declaration("regression"), Doubled())
    assert (made.log_loss, made.measures, made.score_sums) == (None, {}, {})
    assert made.features[0].design_effect == 1.0
    assert known.summary() == (
        "400 rows, 3 features; no labels (column y): the loss is compared with that of the first labels; no "
        "event times (column at): rows count as independent"
    )


def test_an_id_is_left_out_and_named(tmp_path: Path):
    many = pd.concat([frame()] * 3, ignore_index=True)
    path = saved(tmp_path, many.assign(colour=[f"c{number}" for number in range(len(many))]))
    known = reference_rows.read(path, declaration(), GIVEN)
    assert set(known.compared()) == {"x", "noise"}
    assert known.summary().endswith("not compared: colour")


def test_texts_of_digits_in_a_csv_stay_texts(tmp_path: Path):
    frame(colour=["1", "2"] * (COUNT // 2)).to_csv(tmp_path / "rows.csv", index=False)
    known = reference_rows.read(tmp_path / "rows.csv", declaration(), GIVEN)
    assert set(known.columns["colour"]) == {"1", "2"}


def label_of_text() -> dict[str, Any]:
    return declaration().label.model_dump(by_alias=True) | {
        "positive_above": None,
        "schema": {"id": "string", "at": "timestamp", "y": "string"},
    }


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": [np.inf] + [0.0] * (COUNT - 1)}, "'x' has 1 infinite values, the first in row 1: leave these"),
        ({"x": ["a"] * COUNT}, "the column 'x' of the rows does not hold what is served, which is a number"),
        ({"colour": [1.5] * COUNT}, "the column 'colour' of the rows .* 1.5 is not a text: convert it"),
        ({"y": [np.nan] * COUNT}, "column 'y' has 400 rows without a label: remove them, or the column"),
        ({"y": ["yes"] * COUNT}, "column 'y', row 1: the label's value is 'yes', which is not a number"),
        ({"at": ["soon"] * COUNT}, "column 'at', row 1: .*: write times in RFC 3339"),
    ],
)
def test_a_wrong_column_is_named_with_the_file(tmp_path: Path, columns: dict[str, Any], message: str):
    path = saved(tmp_path, frame(**columns))
    with pytest.raises(ReferenceFileError, match=message) as raised:
        reference_rows.read(path, declaration(), GIVEN)
    assert str(path) in str(raised.value)


def test_labels_that_are_no_class_are_refused(tmp_path: Path):
    path = saved(tmp_path, frame(y=["low"] * (COUNT - 1) + ["lowest"]))
    with pytest.raises(ReferenceFileError, match=r"column 'y', row 400: .*'lowest', which is not one"):
        reference_rows.read(path, declaration("multiclass", label=label_of_text()), GIVEN)


def test_too_few_rows_and_absent_columns_are_refused(tmp_path: Path):
    with pytest.raises(ReferenceFileError, match="has 299 rows: give 300 to 1,000,000"):
        reference_rows.read(saved(tmp_path, frame().head(299)), declaration(), GIVEN)
    without = saved(tmp_path, frame().drop(columns=["x"]))
    with pytest.raises(ReferenceFileError, match="has no column x, an input of the model: add it"):
        made_of(without, declaration(), Doubled())
    segments = declaration(monitoring={"segments": ["x"]})
    with pytest.raises(ReferenceFileError, match=r"has no column x, which monitoring\.segments names"):
        reference_rows.read(without, segments, GIVEN)
    untimed = saved(tmp_path, frame().drop(columns=["at"]))
    with pytest.raises(ReferenceFileError, match="has no column at, the event time"):
        reference_rows.read(untimed, declaration(monitoring={"season": {"x": ["hour"]}}), GIVEN)
    with pytest.raises(ReferenceFileError, match="unsupported format"):
        reference_rows.read(tmp_path / "rows.txt", declaration(), GIVEN)


def test_a_model_that_fails_on_the_rows_is_refused(tmp_path: Path):
    class Failing(Doubled):
        def predict(self, columns: Any) -> Any:
            raise KeyError("x")

    class Infinite(Doubled):
        def predict(self, columns: Any) -> Any:
            return np.append(columns["x"][:-1], np.inf)

    path = saved(tmp_path, frame())
    with pytest.raises(ReferenceFileError, match="the model fails on rows 1 to 400: KeyError"):
        made_of(path, declaration(), Failing())
    with pytest.raises(ReferenceFileError, match="output for row 400 is not a finite number"):
        made_of(path, declaration(), Infinite())
