"""A loaded model must repeat the outputs of its golden batch."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from services.model_registry import golden_batch, model_inputs
from services.model_registry.golden_batch import GoldenBatch, GoldenError
from services.model_registry.model_inputs import InputKind
from tests.unit.model_registry.installation import (
    GIVEN,
)


class FixedOutputs:
    def __init__(self, outputs: Any) -> None:
        self.outputs = np.array(outputs)

    def predict(self, columns: model_inputs.Columns) -> Any:
        count = len(next(iter(columns.values())))
        return np.resize(self.outputs, (count, *self.outputs.shape[1:])) if count != 2 else self.outputs


def write(folder: Path, model: Any, columns: model_inputs.Columns) -> None:
    golden_batch.write(folder, GoldenBatch(columns, np.asarray(model.predict(columns))))


def test_model_with_other_outputs_is_refused(tmp_path: Path):
    """Another order of additions makes a difference of 1e-12; a larger one means another model."""
    given = {"x": np.array([1.0, np.nan]), "colour": np.array(["red", None], dtype=object)}
    wanted = {name: GIVEN[name] for name in given}
    write(tmp_path, FixedOutputs([0.5, 0.25]), given)
    golden_batch.verify(golden_batch.read(tmp_path, wanted), FixedOutputs([0.5, 0.25 + 1e-12]))
    with pytest.raises(GoldenError, match=r"1 of 2 outputs .* first is np.float64\(0.2501\) instead of"):
        golden_batch.verify(golden_batch.read(tmp_path, wanted), FixedOutputs([0.5, 0.2501]))
    with pytest.raises(GoldenError, match=r"the shape \(1, 2\), expected \(2,\)"):
        golden_batch.verify(golden_batch.read(tmp_path, wanted), FixedOutputs([[0.5, 0.25]]))


def test_batch_keeps_missing_values(tmp_path: Path):
    """Missing numbers and texts are missing again."""
    seen = []

    class Watching(FixedOutputs):
        def predict(self, columns: model_inputs.Columns) -> Any:
            seen.append(columns)
            return super().predict(columns)

    given = {"x": np.array([1.5, np.nan]), "colour": np.array(["red", None], dtype=object)}
    write(tmp_path, Watching([0.0, 1.0]), given)
    golden_batch.verify(
        golden_batch.read(tmp_path, {name: GIVEN[name] for name in given}), Watching([0.0, 1.0])
    )
    written, few, _, many = seen
    for name in given:
        pd.testing.assert_series_equal(pd.Series(few[name]), pd.Series(written[name]))
        pd.testing.assert_series_equal(pd.Series(many[name][-2:]), pd.Series(written[name]))
        assert len(many[name]) == golden_batch.MANY_ROWS


def test_model_with_other_outputs_for_many_rows_is_refused(tmp_path: Path):
    """A model may compute many rows in another way."""

    class Other(FixedOutputs):
        def predict(self, columns: model_inputs.Columns) -> Any:
            return super().predict(columns) + (len(columns["x"]) > golden_batch.ROWS_MAX)

    write(tmp_path, FixedOutputs([0.5, 0.25]), {"x": np.array([1.0, 2.0])})
    with pytest.raises(GoldenError, match="128 of 128 outputs"):
        golden_batch.verify(golden_batch.read(tmp_path, {"x": InputKind.NUMBER}), Other([0.5, 0.25]))


def test_version_without_a_golden_batch_is_refused(tmp_path: Path):
    """Without a batch nothing is verified."""
    with pytest.raises(GoldenError, match="its golden batch cannot be read"):
        golden_batch.verify(golden_batch.read(tmp_path, {}), FixedOutputs([0.5]))


def test_batch_is_spread_over_the_rows():
    """The first and the last row are in it, and each row at most once."""
    assert golden_batch.spread(3).tolist() == [0, 1, 2]
    taken = golden_batch.spread(1000)
    assert (len(taken), taken[0], taken[-1]) == (64, 0, 999)


def test_error_of_a_model_is_an_error_of_its_version(tmp_path: Path):
    class Broken(FixedOutputs):
        def predict(self, columns: model_inputs.Columns) -> Any:
            raise KeyError("x")

    write(tmp_path, FixedOutputs([0.5]), {"x": np.ones(1)})
    with pytest.raises(GoldenError, match=r"fails on its golden batch: KeyError: 'x'"):
        golden_batch.verify(golden_batch.read(tmp_path, {"x": InputKind.NUMBER}), Broken([]))


@pytest.mark.parametrize(
    ("outputs", "fault"), [([], "no rows for its golden batch"), ([np.nan], "not all finite numbers")]
)
def test_batch_that_verifies_nothing_is_not_written(tmp_path: Path, outputs: list[float], fault: str):
    with pytest.raises(GoldenError, match=fault):
        write(tmp_path, FixedOutputs(outputs), {"x": np.ones(len(outputs))})
