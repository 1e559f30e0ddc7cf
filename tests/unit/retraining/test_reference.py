"""The reference of a model whose held-out days it was not fitted on."""

import numpy as np
import pandas as pd
import pytest

from services.retraining import reference
from services.runtime.declaration import DAY_MS, Business
from tests.unit.retraining import training_data

COSTS = Business(unit="USD", costs={"0": {"0": 0, "1": 10}, "1": {"0": 3, "1": 0}})


def test_scores_and_losses_have_the_times_of_the_held_out_rows():
    """Fewer rows trained on than held out."""
    random = np.random.default_rng(1)
    features = pd.DataFrame(
        {"x": random.normal(size=100), "colour": ["red", "blue"] * 50, "y": np.arange(100.0)}
    )
    declared = training_data.declaration("monitoring", season={"x": ("weekday",)}, segments=("colour",))
    scores = random.random(300)
    made = reference.build(
        3,
        features.astype({"colour": object}),
        np.arange(100) * DAY_MS,
        np.arange(100, 400) * DAY_MS,
        scores,
        (random.random(300) < scores).astype(np.int8),
        0.5,
        ["colour"],
        {"x": 0.25},
        declared.model_copy(update={"business": COSTS}),
    )
    assert made.version == 3
    assert [each.feature for each in made.features] == ["x", "colour", "y"]
    assert len(made.features[0].seasons) == 7
    assert [each.importance for each in made.features] == [0.25, None, None]
    assert [set(each.segments) for each in made.features] == [set(), set(), {"colour=blue", "colour=red"}]
    assert sum(made.features[2].segments["colour=red"]) == 50
    assert made.pairs is not None
    assert (made.pairs.rows, len(made.pairs.products)) == (100, 6)
    assert made.score is not None
    assert sum(made.score.counts) == 300
    assert 1 <= made.loss_design_effect < 2
    labels, positives = np.array(made.score_sums["labels"]), np.array(made.score_sums["positives"])
    assert labels.tolist() == made.score.counts
    assert positives.sum() == pytest.approx(150, abs=40)
    assert made.measures["accuracy"] == sum(made.score_sums["accuracy"]) / 300
    wrong = made.measures["false_positive"], made.measures["false_negative"]
    assert made.measures["cost"] == pytest.approx(3 * wrong[0] + 10 * wrong[1])
