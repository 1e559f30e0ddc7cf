"""What is fitted on which rows, and what is compared on the held-out ones."""

from typing import Any

import numpy as np
import pytest

from models.arrival_delay import training
from services.model_registry.model_inputs import Columns
from services.retraining import candidate
from services.retraining.candidate import Estimators
from services.retraining.errors import InvalidDataError, RetrainingError
from services.retraining.training_set import TrainingSet
from services.runtime.declaration import HOUR_MS, MissingValues, ModelDeclaration
from tests.unit.retraining.training_data import declaration, training_set

HORIZON_HOURS = 48


def estimator(categorical: list[str], numeric: list[str]) -> Any:
    """Return arrival_delay's own pipeline with fewer trees: they cost a second on a busy machine."""
    return training.estimator(categorical, numeric).set_params(trees__max_iter=5)


def fit(data: TrainingSet, declared: ModelDeclaration) -> Estimators:
    return candidate.fit(data, declared, estimator, candidate.split(data, declared))


def outputs(fitted: Any, data: TrainingSet) -> Any:
    return candidate.outputs_of(declaration(), fitted, data.features)


def test_a_label_horizon_lies_between_training_and_held_out_days():
    data = training_set()
    parts = candidate.split(data, declaration(holdout_days=3))
    times_ms = data.event_times_ms
    assert parts.held_out.sum() == 300
    gap_ms = times_ms[parts.held_out].min() - times_ms[parts.trained].max()
    assert gap_ms >= HORIZON_HOURS * HOUR_MS
    assert parts.trained.sum() == 501, "of a hundred rows a day, two days are in neither part"


def test_refitted_candidate_has_seen_all_rows_and_the_measured_one_has_not():
    data = training_set()
    honest, refitted = (
        fit(data, declaration(holdout_days=3)),
        fit(data, declaration(holdout_days=3, refit=True)),
    )

    assert honest.refitted is None
    assert honest.released is honest.candidate
    assert refitted.released is refitted.refitted
    np.testing.assert_array_equal(outputs(refitted.candidate, data), outputs(honest.candidate, data))
    assert not np.array_equal(outputs(refitted.released, data), outputs(honest.candidate, data))


def test_balanced_weights_raise_the_scores_of_the_rare_class():
    data = training_set()
    rare = data.take((data.labels == 0) | (np.arange(1000) % 5 == 0))
    plain, balanced = (
        outputs(fit(rare, declaration(holdout_days=3, class_weight=each)).candidate, rare).mean()
        for each in ("none", "balanced")
    )
    assert balanced > plain + 0.1


def test_an_estimator_without_weights_is_told_to_the_owner():
    from sklearn.neighbors import KNeighborsClassifier

    data, declared = training_set(text=()), declaration(holdout_days=3, class_weight="balanced")
    with pytest.raises(RetrainingError, match="KNeighborsClassifier takes no weights of rows"):
        candidate.fit(data, declared, lambda *_: KNeighborsClassifier(), candidate.split(data, declared))


class Champion:
    """Scores by x alone, as an earlier model of fewer features does."""

    size_bytes = 0

    def predict(self, columns: Columns) -> Any:
        return 1 / (1 + np.exp(-2 * columns["x"]))


def test_champion_is_compared_on_the_same_rows_with_the_features_it_knows():
    data, declared = training_set(), declaration(holdout_days=3)
    late = candidate.split(data, declared).held_out
    found = candidate.champion_outputs(Champion(), data, declared, late)
    x = data.features["x"].to_numpy()[late]
    np.testing.assert_array_equal(found, 1 / (1 + np.exp(-2 * x)))


def test_inputs_are_as_the_model_gets_them():
    data, declared = training_set(), declaration("features", missing=MissingValues(fill={"colour": "none"}))
    found = candidate.estimator_inputs(data, candidate.filled(data, declared))
    assert set(found.features["colour"]) == {"red", "green", "none"}


def test_held_out_days_that_hold_everything_are_refused():
    with pytest.raises(InvalidDataError, match=r"before the held-out days .* there are 0 rows"):
        candidate.split(training_set(), declaration(holdout_days=30))


def test_unseen_category_is_scored_as_any_other_unseen_one():
    data = training_set()
    fitted = estimator(["colour"], ["x"]).fit(data.features, data.labels.astype(np.int8))
    rows = data.features.iloc[[0, 0]].assign(colour=["mauve", "beige"])
    first, second = candidate.outputs_of(declaration(), fitted, rows)

    assert first == second
