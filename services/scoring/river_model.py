"""Versions of models that learn online, as the learning process has published them, ready to score."""

import functools
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from kafka import TopicPartition

from services.model_registry import learned_versions, river_format
from services.model_registry.contract import LoadedVersion
from services.model_registry.input_format import text_of
from services.runtime import kafka_consumers
from services.runtime.settings import Settings
from services.scoring.loaded_versions import VersionLoader
from streams import records, topics


class RiverModel:
    """A river classifier, regressor or pipeline, as it was at the end of an interval."""

    def __init__(self, estimator: Any, size_bytes: int = 0) -> None:
        """Take a trained estimator."""
        self.size_bytes = size_bytes
        self._estimator = estimator
        self._is_classifier = _is_classifier(estimator)
        self._lock = threading.Lock()
        """Some of river's estimators change their state while they predict."""

    def predict(self, columns: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
        """Return the probability of the label True, or the regressed value (n,)."""
        names = list(columns)
        # The learning process reads the texts of times from the prediction records.
        rows = zip(*(list(map(text_of, column.tolist())) for column in columns.values()), strict=True)
        with self._lock:
            outputs = [self._predict_one(learned_versions.row_of(names, row, {})) for row in rows]
        return np.array(outputs, dtype=np.float64)

    def _predict_one(self, row: learned_versions.EstimatorRow) -> float:
        if self._is_classifier:
            return float(self._estimator.predict_proba_one(row).get(True, 0.0))
        return float(self._estimator.predict_one(row))


def _is_classifier(estimator: Any) -> bool:
    """Return whether the last step of a pipeline is a classifier."""
    from river import base, compose  # late: river takes a second, and most installations have no such model

    while isinstance(estimator, compose.Pipeline):
        estimator = estimator[-1]
    return isinstance(estimator, base.Classifier)


def learned_version_loader(settings: Settings) -> VersionLoader:
    """Return the loader of models that learn online; a load blocks for some 10 ms."""
    partition = TopicPartition(topics.LEARNED.name, 0)
    decode = records.decoder_of(records.LearnedModel).decode
    lock = threading.Lock()

    @functools.cache
    def consumer() -> Any:  # connects with the first load: most installations have no such model
        return kafka_consumers.connect(settings, "learned")

    def load(name: str, version: int) -> LoadedVersion:
        key = learned_versions.key(name, version)
        with lock:
            try:
                found = kafka_consumers.latest_values(consumer(), partition, [key]).get(key)
            finally:
                consumer().assign([])  # else it would continue to fetch, fifty times a second
        published = None if found is None else decode(found[1])
        if published is None or (published.model, published.version) != (name, version):
            raise LookupError(
                f"{name} version {version} is not in the topic {topics.LEARNED.name}: it was never "
                "published, or a later version has replaced it; choose a later version"
            )
        return LoadedVersion(RiverModel(river_format.decode(published.estimator), len(published.estimator)))

    return load
