from typing import Any

import numpy as np
import pytest

from models.arrival_delay import training
from services.retraining import candidate
from services.retraining.errors import InvalidDataError, RetrainingError
from tests.unit.retraining.world import declaration, training_set


def estimator(categorical: list[str], numeric: list[str]) -> Any:
    """Return arrival_delay's own pipeline with fewer trees: they cost a second on a busy machine."""
    return training.estimator(categorical, numeric).set_params(trees__max_iter=5)


def test_candidate_is_measured_on_days_that_it_has_not_seen():
    data = training_set()
    trained = candidate.train(data, declaration(holdout_days=3), estimator, None)

    assert len(trained.trained_on) == 700
    assert len(trained.held_out_scores) == len(trained.held_out_labels) == 300
    assert trained.metrics.auc > 0.7
    assert trained.champion is None


def test_refitted_candidate_has_seen_all_rows_and_keeps_its_honest_metrics():
    data = training_set()
    honest = candidate.train(data, declaration(holdout_days=3), estimator, None)
    refitted = candidate.train(data, declaration(holdout_days=3, refit=True), estimator, None)

    assert refitted.metrics == honest.metrics
    assert len(refitted.trained_on) == 1000
    scores = candidate.scores_of(refitted.estimator, data.features)
    assert not np.array_equal(scores, candidate.scores_of(honest.estimator, data.features))


def test_champion_is_compared_on_the_same_rows_with_the_features_it_knows():
    data = training_set()
    champion = estimator([], ["x"]).fit(data.features[["x"]], data.labels)
    trained = candidate.train(data, declaration(holdout_days=3), estimator, champion)

    assert trained.champion is not None
    assert trained.champion.log_loss < 0.69


def test_champion_whose_features_are_gone_cannot_be_compared():
    data = training_set()
    champion = estimator([], ["x", "y"]).fit(data.features[["x"]].assign(y=1.0), data.labels)

    with pytest.raises(RetrainingError, match="the champion needs the features y"):
        candidate.train(data, declaration(holdout_days=3), estimator, champion)


def test_held_out_days_that_hold_everything_are_refused():
    with pytest.raises(InvalidDataError, match="0 rows before the held-out days"):
        candidate.train(training_set(), declaration(holdout_days=30), estimator, None)


def test_unseen_category_is_scored_as_any_other_unseen_one():
    data = training_set()
    fitted = estimator(["colour"], ["x"]).fit(data.features, data.labels)
    rows = data.features.iloc[[0, 0]].assign(colour=["mauve", "beige"])
    first, second = candidate.scores_of(fitted, rows)

    assert first == second
