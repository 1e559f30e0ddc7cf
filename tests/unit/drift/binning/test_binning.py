"""Rows in the bins of a reference."""

import numpy as np

from services.drift.binning.binning import PredictionRows, RowBinner
from streams.feature_sets import FeatureSets, feature_set
from tests.unit.drift import scenario
from tests.unit.drift.scenario import START_MS


def rows() -> PredictionRows:
    values = [[-2.0, "red"], [0.1], [9.0, "pink"], [None, "blue"]]
    return PredictionRows(
        [
            scenario.prediction(number, START_MS + number, features=features, score=score)
            for number, (features, score) in enumerate(zip(values, [0.1, 0.4, 0.6, None], strict=True))
        ]
    )


def binner() -> RowBinner:
    return RowBinner(scenario.reference(), scenario.declaration(segments=["colour"]))


def test_rows_with_other_features_are_left_out_but_their_scores_are_not() -> None:
    binned = binner().assign(rows())
    assert binned.rows.tolist() == [0, 2, 3]
    assert binned.bins.tolist() == [[0, 0], [9, 3], [10, 2]]
    assert binned.outputs["score"].tolist() == [0, 1, 2, 4]


def test_columns_and_rank_scores_are_those_of_the_remaining_rows() -> None:
    binned = binner().assign(rows())
    assert [list(column) for column in binned.columns] == [[-2.0, 9.0, None], ["red", "pink", "blue"]]
    assert binned.pair_scores.shape == (3, 2)
    assert binned.pair_scores[1:, :].tolist() == [[90, 0], [0, 80]]
    assert set(binned.segments) == {"colour=red", "colour=green", "colour=blue"}


def test_features_are_found_by_name_whatever_their_order_and_number() -> None:
    sets = FeatureSets(
        [
            feature_set("m", ["x", "colour"], ["colour"]),
            turned := feature_set("m", ["colour", "new", "x"], ["colour"]),
            removed := feature_set("m", ["colour"], ["colour"]),
        ]
    )
    rows = PredictionRows(
        [
            scenario.prediction(0, START_MS, features=[-2.0, "red"]),
            scenario.prediction(1, START_MS, features=["blue", 7, 9.0], feature_set=turned.digest),
            scenario.prediction(2, START_MS, features=["green"], feature_set=removed.digest),
            scenario.prediction(3, START_MS, features=[0.1, "red"], feature_set="ffffffffffff"),
        ]
    )
    binned = RowBinner(scenario.reference(), scenario.declaration(), sets).assign(rows)
    assert binned.rows.tolist() == [0, 1, 2]
    assert binned.bins.tolist() == [[0, 0], [9, 2], [10, 1]]
    assert [list(column) for column in binned.columns] == [[-2.0, 9.0, None], ["red", "blue", "green"]]


def test_no_row_fits() -> None:
    binned = binner().assign(PredictionRows([scenario.prediction(0, START_MS, features=[])]))
    assert binned.rows.tolist() == []
    assert binned.bins.shape == (0, 2)


def test_tie_breakers_follow_from_the_id_and_are_uniform() -> None:
    many = PredictionRows([scenario.prediction(number, START_MS) for number in range(2000)])
    found = many.tie_breakers()
    assert found.tolist() == many.tie_breakers().tolist()
    assert ((found > 0) & (found < 1)).all()
    assert np.abs(np.sort(found) - np.linspace(0, 1, 2000)).max() < 0.05
