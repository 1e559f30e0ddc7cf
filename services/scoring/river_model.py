"""Versions of models that learn online, as the learning process has published them, ready to score."""

import functools
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from services.model_registry import learned_versions, river_format
from services.model_registry.contract import LoadedVersion
from services.model_registry.input_format import text_of
from services.runtime import kafka_consumers
from services.runtime.settings import Settings
from services.scoring.loaded_versions import VersionLoader
from streams import topics


class RiverModel:
    """A river classifier, regressor or pipeline, as it was at the end of an interval."""

    def __init__(self, estimator: Any, size_bytes: int = 0) -> None:
        """Take a trained estimator."""
        self.size_bytes = size_bytes
        self._estimator = estimator
        self._is_classifier = learned_versions.is_classifier(estimator)
        self._lock = threading.Lock()
        """Some of river's estimators change their state while they predict."""

    def predict(self, columns: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
        """Return the probability of the label True, or the regressed value (n,)."""
        names = list(columns)
        # The learning process reads the texts of times from the prediction records.
        rows = zip(*(list(map(text_of, column.tolist())) for column in columns.values()), strict=True)
        with self._lock:
            rows_of_model = (learned_versions.row_of(names, row, {}) for row in rows)
            outputs = [
                learned_versions.score_of(self._estimator, row, as_classifier=self._is_classifier)
                for row in rows_of_model
            ]
        return np.array(outputs, dtype=np.float64)


def learned_version_loader(settings: Settings) -> VersionLoader:
    """Return the loader of models that learn online; a load blocks for some 10 ms."""
    lock = threading.Lock()

    @functools.cache
    def consumer() -> Any:  # connects with the first load: most installations have no such model
        return kafka_consumers.connect(settings, "learned")

    def load(name: str, version: int) -> LoadedVersion:
        with lock:
            try:
                published = learned_versions.find(consumer(), name, version)
            finally:
                consumer().assign([])  # else it would continue to fetch, fifty times a second
        if published is None:
            raise LookupError(
                f"{name} version {version} is not in the topic {topics.LEARNED.name}: it was never "
                "published, or a later version has replaced it; choose a later version"
            )
        return LoadedVersion(RiverModel(river_format.decode(published.estimator), len(published.estimator)))

    return load
