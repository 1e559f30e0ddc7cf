"""The keys of learned versions, and the input of an estimator."""

import math

import pytest

from services.model_registry import learned_versions
from services.model_registry.learned_versions import KEYS
from services.runtime.declaration import INTERVALS_AHEAD_MAX


def test_versions_use_the_keys_in_turn():
    keys = [learned_versions.key("m", version) for version in range(1, KEYS + 1)]
    assert len(set(keys)) == KEYS
    assert learned_versions.key("m", KEYS + 1) == keys[0]
    assert learned_versions.checkpoint_key("m") not in keys


def test_version_in_effect_is_kept_while_later_ones_wait():
    assert KEYS > INTERVALS_AHEAD_MAX


@pytest.mark.parametrize("missing", [None, math.nan])
def test_missing_feature_gets_its_declared_value_or_is_left_out(missing):
    assert learned_versions.row_of(["a", "b"], [missing, missing], {"a": 1.5}) == {"a": 1.5}
    assert learned_versions.row_of(["a", "b"], [0.0, ""], {"a": 1.5}) == {"a": 0.0, "b": ""}
