"""What the learning process and scoring agree on: the keys of learned versions, and an estimator's input.

The versions of one model use `KEYS` keys of the compacted topic in turn, so that the topic holds every
version that may still score, and no more. A champion that no later version replaces has a copy under a key of
its own.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from services.runtime import kafka_consumers
from services.runtime.declaration import INTERVALS_AHEAD_MAX
from streams import records, topics
from streams.records import FeatureValue, LearnedModel

KEYS = 2 * INTERVALS_AHEAD_MAX
"""Keys per model: enough for the version in effect and those that are not in effect yet, twice, for slow
readers."""
EstimatorRow = dict[str, float | int | str | bool]
"""Features by name, without missing ones: river's estimators do not support null."""


def key(model: str, version: int) -> bytes:
    """Return the key under which a version is published."""
    return f"{model}/{version % KEYS}".encode()


def champion_key(model: str) -> bytes:
    """Return the key of the copy of a champion that no later version has replaced for long."""
    return f"{model}/champion".encode()


def checkpoint_key(model: str) -> bytes:
    """Return the key of the learning process's checkpoint."""
    return f"{model}/checkpoint".encode()


def find(consumer: KafkaConsumer, model: str, version: int) -> LearnedModel | None:
    """Return a published version, or its copy as the champion; None if both are overwritten. Blocking.

    The consumer is assigned to the topic afterwards.

    Raises:
        LargeRecordError: A value in parts is not complete.
        KafkaError: The broker cannot be reached.
    """
    partition, decoder = TopicPartition(topics.LEARNED.name, 0), records.decoder_of(LearnedModel)
    for each in (key(model, version), champion_key(model)):
        found = kafka_consumers.latest_values(consumer, partition, [each]).get(each)
        learned: LearnedModel | None = None if found is None else decoder.decode(found[1])
        if learned is not None and (learned.model, learned.version) == (model, version):
            return learned
    return None


def row_of(
    names: Sequence[str], values: Sequence[FeatureValue], fill: Mapping[str, float | str]
) -> EstimatorRow:
    """Return the features of one request as the input of an estimator, in the order of the names.

    >>> row_of(["hour", "carrier", "gust"], [16.0, "UA", None], {"gust": 0.0})
    {'hour': 16.0, 'carrier': 'UA', 'gust': 0.0}
    """
    row: dict[str, Any] = {}
    for name, value in zip(names, values, strict=True):
        known = fill.get(name) if value is None or value != value else value
        if known is not None:
            row[name] = known
    return row


def score_of(estimator: Any, row: EstimatorRow, *, as_classifier: bool) -> float:
    """Return an estimator's probability of the label True, or its regressed value."""
    if as_classifier:
        return float(estimator.predict_proba_one(row).get(True, 0.0))
    return float(estimator.predict_one(row))


def is_classifier(estimator: Any) -> bool:
    """Return whether the last step of a pipeline is a classifier."""
    from river import base, compose  # late: river takes a second, and most installations have no such model

    while isinstance(estimator, compose.Pipeline):
        estimator = estimator[-1]
    return isinstance(estimator, base.Classifier)
