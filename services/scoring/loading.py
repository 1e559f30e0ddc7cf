"""Versions from MLflow's registry, ready to score."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from services import registry
from services.scoring.models import Load, LoadedModel
from services.settings import Settings

BINARY = 2


class SklearnModel:
    """A scikit-learn classifier, regressor or pipeline."""

    def __init__(self, estimator: Any, size_bytes: int = 0) -> None:
        """Take a fitted estimator."""
        self.size_bytes = size_bytes
        self._estimator = estimator
        self._names = [str(name) for name in getattr(estimator, "feature_names_in_", ())]
        self._classes = len(getattr(estimator, "classes_", ()))

    def predict(self, columns: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
        """Return the probability of class 1 of two or a regressed value (n,), else (n, n_classes)."""
        rows = self._input(columns)
        if not self._classes:
            return np.asarray(self._estimator.predict(rows), dtype=np.float64)
        probabilities = self._estimator.predict_proba(rows)
        return np.asarray(probabilities if self._classes > BINARY else probabilities[:, 1], dtype=np.float64)

    def _input(self, columns: Mapping[str, npt.NDArray[Any]]) -> Any:
        """Give columns by name to an estimator that knows names, else a plain matrix in their order."""
        if not self._names:
            return np.column_stack(list(columns.values()))
        import pandas as pd

        return pd.DataFrame({name: columns[name] for name in self._names}, copy=False)


def loader(settings: Settings) -> Load:
    """Return a function that loads one version of a named model; it blocks for some 100 ms."""
    client = registry.connect(settings)  # here and not at the first load: the import takes seconds

    def load(name: str, version: int) -> LoadedModel:
        return SklearnModel(registry.load(client, name, version))

    return load
