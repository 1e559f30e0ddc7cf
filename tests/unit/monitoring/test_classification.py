"""Precision, recall and F1 from counts."""

import bisect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from services.monitoring import classification
from services.monitoring.classification import Confusion

PAIRS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30)
SCORED = st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.01, 0.3, 0.31, 0.5, 0.99, 1.0])))


@given(SCORED)
def test_counts_between_thresholds_give_the_matrix_at_each(rows):
    thresholds = classification.thresholds_of(0.31)
    counts = np.zeros((2, len(thresholds) + 1), dtype=int)
    for label, score in rows:
        counts[int(label), bisect.bisect_right(thresholds, score)] += 1
    found = classification.by_threshold(counts[1].tolist(), counts[0].tolist())
    for threshold, each in zip(thresholds, found, strict=True):
        assert each == Confusion(
            sum(label and score >= threshold for label, score in rows),
            sum(not label and score >= threshold for label, score in rows),
            sum(label and score < threshold for label, score in rows),
            sum(not label and score < threshold for label, score in rows),
        )


def test_the_declared_threshold_is_one_of_the_grid_or_added_to_it():
    assert classification.thresholds_of(0.5) == sorted(classification.GRID)
    assert 0.123 in classification.thresholds_of(0.123)


@given(PAIRS)
def test_figures_of_classes_are_those_of_scikit_learn(pairs):
    labels, predicted = zip(*pairs, strict=True)
    matrix = metrics.confusion_matrix(labels, predicted, labels=[0, 1, 2]).tolist()
    each = metrics.precision_recall_fscore_support(
        labels, predicted, labels=[0, 1, 2], zero_division=0
    )  # fmt: skip
    for number in range(3):
        own = Confusion.of_class(matrix, number)
        assert sum(own) == len(pairs)
        expected = [column[number] for column in each[:3]]
        assert [value or 0.0 for value in own.figures.values()] == pytest.approx(expected)
    macro = metrics.precision_recall_fscore_support(labels, predicted, average="macro", zero_division=0)
    assert list(classification.macro_figures(matrix).values()) == pytest.approx(list(macro[:3]))


def test_what_nothing_was_counted_for_is_unknown():
    assert Confusion(0, 0, 0, 9).figures == {"precision": None, "recall": None, "f1": None}
    assert classification.macro_figures([[0, 0], [0, 0]]) == {"precision": None, "recall": None, "f1": None}


def test_an_interval_of_a_share_holds_it_and_stays_within_0_and_1():
    assert classification.wilson_interval(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert classification.wilson_interval(10, 10)[1] == 1.0
