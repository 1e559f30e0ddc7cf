"""Versions from MLflow's registry, ready to score."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from services import registry
from services.scoring.models import Load, LoadedModel
from services.settings import Settings


class SklearnClassifier:
    """A binary scikit-learn classifier or pipeline."""

    def __init__(self, estimator: Any) -> None:
        """Take a fitted estimator with ``predict_proba``."""
        self._estimator = estimator
        self._names = [str(name) for name in getattr(estimator, "feature_names_in_", ())]

    def predict(self, columns: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
        """Return the probability of the positive class (n,)."""
        probabilities = self._estimator.predict_proba(self._input(columns))
        return np.asarray(probabilities[:, 1], dtype=np.float64)

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
        return SklearnClassifier(registry.load(client, name, version))

    return load
