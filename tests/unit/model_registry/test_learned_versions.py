"""The keys of learned versions, and the input of an estimator."""

import math

import pytest

from services.model_registry import learned_versions
from services.model_registry.learned_versions import KEYS
from services.runtime import kafka_consumers
from services.runtime.declaration import INTERVALS_AHEAD_MAX
from streams import records, topics
from streams.records import LearnedModel


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


@pytest.mark.parametrize(
    ("version", "found"), [(70, True), (6, True), (134, False)], ids=["its key", "a copy", "overwritten"]
)
def test_a_version_is_found_under_its_key_or_as_the_copy_of_the_champion(version, found, monkeypatch):
    """Version 70 has replaced version 6, of which there is a copy."""
    in_topic = {b"m/6": 70, b"m/champion": 6}

    def latest_values(consumer, partition, keys):
        assert (consumer, partition.topic) == ("consumer", topics.LEARNED.name)
        return {key: (0, encoded(in_topic[key])) for key in keys}

    def encoded(number):
        return records.encode(
            LearnedModel(model="m", version=number, interval_end_ms=0, labels=1, estimator=b"")
        )

    monkeypatch.setattr(kafka_consumers, "latest_values", latest_values)
    learned = learned_versions.find("consumer", "m", version)
    assert (learned is not None) == found
    assert learned is None or learned.version == version
