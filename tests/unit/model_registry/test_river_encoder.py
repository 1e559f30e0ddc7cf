"""Only data is written, and a set always in the same order."""

import collections
import random

import pytest
from river import compose, drift, stats, tree

from services.model_registry import river_format as subject
from services.model_registry.river_types import EstimatorError


def test_sets_are_written_in_one_order():
    one, other = {"a", "b", "c", "d"}, {"d", "c", "b", "a"}
    assert subject.encode(one) == subject.encode(other)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (compose.FuncTransformer(lambda x: x), "<lambda>"),
        (random.SystemRandom(), "random.SystemRandom"),
        (drift.ADWIN(), "river.drift"),
        (tree.HoeffdingAdaptiveTreeRegressor(), "river.drift"),
        (stats.Quantile(), "RsQuantile"),
        (collections.defaultdict(lambda: 0), "<lambda>"),
    ],
    ids=[
        "function",
        "foreign random",
        "drift detector",
        "tree with detectors",
        "compiled",
        "function inside",
    ],
)
def test_value_that_is_not_data_is_refused_by_name(value, reason):
    with pytest.raises(EstimatorError, match=reason):
        subject.encode(value)
