import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from services.retraining.evaluation import evaluate, held_out
from services.runtime.declaration import DAY_MS


def test_latest_days_are_held_out_and_nothing_earlier():
    times = np.array([0, 1, 2, 3, 10], dtype=np.int64) * DAY_MS

    assert held_out(times, 7 * DAY_MS).tolist() == [False, False, False, False, True]
    assert held_out(times, 8 * DAY_MS + 1).tolist() == [False, False, True, True, True]
    assert held_out(times[:0], DAY_MS).tolist() == []


def test_metrics_agree_with_scikit_learn():
    chance = np.random.default_rng(3)
    labels = chance.integers(0, 2, 500).astype(np.int8)
    scores = np.round(chance.random(500), 2)  # with ties
    found = evaluate(labels, scores)

    assert found.log_loss == pytest.approx(oracle.log_loss(labels, np.clip(scores, 1e-7, 1 - 1e-7)), abs=1e-6)
    assert found.auc == pytest.approx(oracle.roc_auc_score(labels, scores))
    assert found.brier == pytest.approx(oracle.brier_score_loss(labels, scores))
    assert found.accuracy == pytest.approx(oracle.accuracy_score(labels, scores >= 0.5))


def test_auc_of_one_class_is_no_metric():
    found = evaluate(np.ones(4, dtype=np.int8), np.full(4, 0.9))

    assert "auc" not in found.named()
    assert set(found.named("champion_")) == {"champion_log_loss", "champion_accuracy", "champion_brier"}


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=50), st.integers(1, 10**6))
def test_held_out_rows_are_later_than_the_others(times: list[int], holdout_ms: int):
    array = np.array(times, dtype=np.int64)
    late = held_out(array, holdout_ms)

    assert late.any()
    assert late.all() or array[~late].max() < array[late].min()
