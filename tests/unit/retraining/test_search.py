import builtins

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from services.retraining.errors import RetrainingError
from services.retraining.search import SearchBudget, SearchResult, folds, search

ROWS = 300
RANDOM = np.random.default_rng(1)
FEATURES = pd.DataFrame(RANDOM.normal(size=(ROWS, 30)), columns=[f"x{number}" for number in range(30)])
LABELS = FEATURES["x0"].to_numpy() + RANDOM.normal(size=ROWS)
TIMES_MS = np.arange(ROWS, dtype=np.int64) * 1000


def found(space, trials: int = 8, seconds: float | None = None, seed: int = 0) -> SearchResult:
    return search(
        Ridge,
        space,
        FEATURES,
        LABELS,
        folds(TIMES_MS, 5000, 3),
        lambda estimator, rows: estimator.predict(rows),
        lambda outputs, labels: float(np.mean((outputs - labels) ** 2)),
        SearchBudget(trials, seconds),
        seed,
    )


def wide(trial):
    return {"alpha": trial.suggest_float("alpha", 0.01, 1000, log=True)}


def test_best_parameters_are_better_than_the_defaults():
    result = found(wide)

    assert result.loss < result.default_loss
    assert result.loss == min(each.loss for each in result.trials)
    assert result.parameters["alpha"] > 1


def test_same_seed_gives_the_same_parameters():
    assert found(wide).parameters == found(wide).parameters
    assert found(wide).trials != found(wide, seed=7).trials


def test_defaults_are_kept_if_nothing_is_better():
    result = found(lambda _: {"alpha": 1e9})

    assert result.parameters == {}
    assert result.loss == result.default_loss


def test_budget_of_time_ends_the_search():
    assert len(found(wide, trials=100_000, seconds=0.01).trials) < 1000


def test_trial_that_fails_does_not_end_the_search():
    def some(trial):
        return {"alpha": trial.suggest_categorical("alpha", [-1.0, 50.0])}

    result = found(some)
    assert result.parameters == {"alpha": 50.0}
    assert any(np.isinf(each.loss) for each in result.trials)


def test_search_in_which_all_trials_fail_is_an_error():
    with pytest.raises(RetrainingError, match="no trial"):
        found(lambda _: {"alpha": -1.0}, trials=2)


def test_missing_package_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch):
    original = builtins.__import__

    def without(name, *arguments, **named):
        if name == "optuna":
            raise ImportError(name)
        return original(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(RetrainingError, match=r"pip install 'driftline\[training\]'"):
        found(wide)


@given(st.integers(40, 300), st.integers(1, 5), st.integers(0, 5000))
def test_labels_of_training_rows_were_known_before_the_test_rows(rows: int, count: int, horizon_ms: int):
    times_ms = np.arange(rows, dtype=np.int64) * 1000
    made = folds(times_ms, horizon_ms, count)

    assert len(made) == count
    assert made[-1].test[-1] == rows - 1
    for fold in made:
        assert times_ms[fold.train].max() + horizon_ms <= times_ms[fold.test].min()


def test_too_few_rows_for_the_folds_are_an_error():
    with pytest.raises(RetrainingError, match="too few for 3 folds"):
        folds(TIMES_MS, 1_000_000, 3)
