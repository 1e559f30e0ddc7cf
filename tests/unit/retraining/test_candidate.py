from typing import Any

import numpy as np
import pytest

from models.arrival_delay import training
from services.model_registry.model_inputs import Columns
from services.retraining import candidate
from services.retraining.errors import InvalidDataError
from services.runtime.declaration import MissingValues
from tests.unit.retraining.training_data import declaration, training_set


def estimator(categorical: list[str], numeric: list[str]) -> Any:
    """Return arrival_delay's own pipeline with fewer trees: they cost a second on a busy machine."""
    return training.estimator(categorical, numeric).set_params(trees__max_iter=5)


def test_candidate_is_measured_on_days_that_it_has_not_seen():
    data = training_set()
    trained = candidate.train(data, declaration(holdout_days=3), estimator, None)

    assert len(trained.trained_on) == 700
    assert len(trained.held_out_scores) == len(trained.held_out_labels) == 300
    assert trained.metrics.auc > 0.7
    assert trained.importances["x"] > 0.02
    assert min(trained.importances.values()) >= 0
    assert trained.champion is None


def test_refitted_candidate_has_seen_all_rows_and_keeps_its_honest_metrics():
    data = training_set()
    honest = candidate.train(data, declaration(holdout_days=3), estimator, None)
    refitted = candidate.train(data, declaration(holdout_days=3, refit=True), estimator, None)

    assert refitted.metrics == honest.metrics
    assert len(refitted.trained_on) == 1000
    scores = candidate.scores_of(refitted.estimator, data.features)
    assert not np.array_equal(scores, candidate.scores_of(honest.estimator, data.features))


class Champion:
    """Scores by x alone, as an earlier model of fewer features does."""

    size_bytes = 0

    def predict(self, columns: Columns) -> Any:
        return 1 / (1 + np.exp(-2 * columns["x"]))


def test_champion_is_compared_on_the_same_rows_with_the_features_it_knows():
    trained = candidate.train(training_set(), declaration(holdout_days=3), estimator, Champion())

    assert trained.champion is not None
    assert trained.champion.log_loss < 0.69


def test_examples_are_held_out_rows_as_the_model_gets_them():
    data = training_set()
    declared = declaration("features", missing=MissingValues(fill={"colour": "none"}))
    trained = candidate.train(data, declared, estimator, None)

    assert len(trained.examples) == len(trained.held_out_labels)
    assert set(trained.examples["colour"]) == {"red", "green", "none"}
    assert trained.examples.index.min() >= 300


def test_held_out_days_that_hold_everything_are_refused():
    with pytest.raises(InvalidDataError, match="0 rows before the held-out days"):
        candidate.train(training_set(), declaration(holdout_days=30), estimator, None)


def test_unseen_category_is_scored_as_any_other_unseen_one():
    data = training_set()
    fitted = estimator(["colour"], ["x"]).fit(data.features, data.labels)
    rows = data.features.iloc[[0, 0]].assign(colour=["mauve", "beige"])
    first, second = candidate.scores_of(fitted, rows)

    assert first == second
