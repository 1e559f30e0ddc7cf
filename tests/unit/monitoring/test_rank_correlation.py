"""Rank scores, and exact sums of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.monitoring.rank_correlation import SCORE_MAX, Moments, RankScorer, correlations
from streams.records import FeatureReference

NOON_MS = 12 * 3_600_000
REFERENCE = FeatureReference(feature="x", counts=[1, 1, 2], missing=0, edges=[0.0, 1.0])


def times_ms(rows: int, time_ms: int = 0) -> np.ndarray:
    return np.full(rows, time_ms, dtype=np.int64)


def test_a_score_is_the_centred_middle_rank_of_its_bin():
    assert RankScorer(REFERENCE).scores(np.array([0, 1, 2]), times_ms(3)).tolist() == [-75, -25, 50]


def test_new_and_missing_values_have_the_middle_rank():
    categories = FeatureReference(feature="c", counts=[1, 3], missing=0, categories=["a", "b"])
    assert RankScorer(categories).scores(np.array([2, 3]), times_ms(2)).tolist() == [0, 0]


def test_scores_are_those_of_the_season_and_zero_where_the_reference_lacks_it():
    seasonal = FeatureReference(
        feature="x",
        counts=[1, 1, 2],
        missing=0,
        edges=[0.0, 1.0],
        season=["hour"],
        seasons={"12": [4, 0, 0, 0]},
    )
    scorer = RankScorer(seasonal)
    assert scorer.scores(np.array([0, 1]), times_ms(2, NOON_MS)).tolist() == [0, SCORE_MAX]
    assert scorer.scores(np.array([0, 1]), times_ms(2, 0)).tolist() == [0, 0]


@settings(max_examples=50)
@given(st.lists(st.lists(st.integers(-100, 100), min_size=3, max_size=3), max_size=40), st.integers(0, 40))
def test_moments_are_exact_and_merge(rows, cut):
    scores = np.array(rows, dtype=np.int8).reshape(-1, 3)
    whole, left, right = Moments.none(3), Moments.none(3), Moments.none(3)
    whole.add(scores)
    left.add(scores[:cut])
    right.add(scores[cut:])
    right.merge(left)
    assert right.reference() == whole.reference()
    assert Moments.of_reference(whole.reference()).reference() == whole.reference()
    exact = [[sum(row[a] * row[b] for row in rows) for b in range(3)] for a in range(3)]
    assert whole.products.tolist() == exact


def test_correlations_are_those_of_numpy_and_zero_for_a_constant():
    scores = np.random.default_rng(1).integers(-100, 101, (500, 3)).astype(np.int8)
    scores[:, 2] = 7
    moments = Moments.none(3)
    moments.add(scores)
    covariances = moments.covariances()
    found = correlations(covariances, np.sqrt(np.diagonal(covariances)))
    assert found[0, 1] == pytest.approx(np.corrcoef(scores[:, 0], scores[:, 1])[0, 1])
    assert found[2].tolist() == [0, 0, 0]


def test_a_copy_is_independent():
    moments = Moments.none(2)
    moments.copy().add(np.ones((3, 2), dtype=np.int8))
    assert moments.rows == 0
    assert moments.sums.tolist() == [0, 0]
