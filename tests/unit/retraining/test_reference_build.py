"""The reference of a model whose held-out days it was not fitted on."""

import numpy as np
import pandas as pd

from services.model import DAY_MS, Monitoring
from services.retraining import reference


def test_scores_and_losses_have_the_times_of_the_held_out_rows():
    """Fewer rows trained on than held out."""
    random = np.random.default_rng(1)
    features = pd.DataFrame({"x": random.normal(size=100), "colour": ["red"] * 100})
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
        Monitoring(season={"x": ("weekday",)}),
        {"x": 0.25},
    )
    assert made.version == 3
    assert [each.feature for each in made.features] == ["x", "colour"]
    assert len(made.features[0].seasons) == 7
    assert [each.importance for each in made.features] == [0.25, None]
    assert made.pairs is not None
    assert (made.pairs.rows, len(made.pairs.products)) == (100, 3)
    assert made.score is not None
    assert sum(made.score.counts) == 300
    assert 1 <= made.loss_design_effect < 2
