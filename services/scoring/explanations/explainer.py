"""Explains predictions: what each feature contributed to a score, as Shapley values.

The contributions of a row and the base value (the mean score of the background) sum to the row's score. The
background is the sample of training rows that the version keeps as its golden batch, so the first explanation
is as good as a later one. A version without one, which learns online, is compared with recently served rows.
How they are computed depends on the model: `services.scoring.explanations.shap_values`.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from services.model_registry.contract import LoadedVersion, Model
from services.model_registry.sklearn_flavour.model import SklearnModel
from services.scoring import recent_rows
from services.scoring.explanations import shap_values
from services.scoring.explanations.shap_values import ExplainedRows, Explanation
from services.scoring.inference_pipeline import InferencePipeline
from services.scoring.model_calls import RowErrors
from services.scoring.outputs import PredictionTask
from services.scoring.scored_batch import FeatureColumns
from streams import records

ROWS_MAX = 16
"""Maximum rows of one request; with an unknown kind of model each row costs some ten thousand model rows."""
SECONDS_MAX = 30.0
"""Maximum time for all rows of a request; the first request of a process imports the library (seconds)."""
OTHER_ROWS_MIN = 4
"""Minimum rows in the background that are not of the request itself."""


class NoBackgroundError(RuntimeError):
    """Too few other requests were served: compared with itself, a row would have contributions of 0."""


class Explainer:
    """Explains the predictions of one model."""

    def __init__(self, pipeline: InferencePipeline) -> None:
        """Take the model; the library is imported with the first explanation."""
        self._pipeline = pipeline

    async def explain(
        self, features: FeatureColumns, arms: Sequence[records.Arm], outputs: npt.NDArray[np.float64]
    ) -> list[Explanation | None]:
        """Explain n predictions, each by the version that made it; None where numbers overflow.

        For multiclass models, the probability of the predicted class is explained. Uses no thread that
        predictions need.

        Args:
            features: Features as read; each column (n,).
            arms: Arms of the n predictions.
            outputs: Outputs of the model, (n,) or (n, n_classes).

        Raises:
            NoBackgroundError: The version has no sample of training rows, and fewer than `OTHER_ROWS_MIN`
                other rows were served since the start.
            NotInstalledError: The optional packages are missing.
            TimeoutError: The explanation took longer than `SECONDS_MAX`.
        """
        deadline_seconds = time.monotonic() + SECONDS_MAX
        rows_of = self._pipeline.features.inputs
        inputs = rows_of(features)
        versions = np.array([arm.version for arm in arms])
        found: dict[int, Explanation | None] = {}
        for version in np.unique(versions).tolist():
            rows = np.flatnonzero(versions == version)
            loaded = await self._pipeline.versions.loaded.get(version)
            sample = _training_sample(loaded, inputs)
            background = rows_of(self._recent(len(arms))) if sample is None else sample
            bounded = _DeadlineModel(loaded.model, self._pipeline.task, deadline_seconds)
            if time.monotonic() > deadline_seconds:
                raise TimeoutError
            scored = await self._pipeline.calls.predict_in_background(loaded, background)
            answered = _without(background, scored.errors)
            explained = await self._explain_version(bounded, answered, inputs, outputs, rows)
            found |= zip(rows.tolist(), explained, strict=True)
        return [found[row] for row in range(len(arms))]

    def _recent(self, count: int) -> FeatureColumns:
        recent = self._pipeline.features.recent
        others = len(recent) - min(count, recent_rows.ADDED_ROWS_MAX)
        if others < OTHER_ROWS_MIN:
            raise NoBackgroundError(
                f"no background yet: an explanation compares the row with at least {OTHER_ROWS_MIN} recently "
                f"served rows, and there are {others}; repeat the request after other requests"
            )
        return recent.columns()

    async def _explain_version(
        self,
        model: "_DeadlineModel",
        background: FeatureColumns,
        inputs: FeatureColumns,
        outputs: npt.NDArray[np.float64],
        rows: npt.NDArray[np.int64],
    ) -> list[Explanation | None]:
        """Explain the rows of one version by its structure, and those that fail by its outputs."""
        in_background = self._pipeline.calls.threads.run_in_background
        version_inputs = {name: column[rows] for name, column in inputs.items()}
        explained = await in_background(model.by_structure, background, version_inputs, outputs[rows])
        for index, row in enumerate(rows.tolist()):
            if explained[index] is None:
                one = {name: column[row : row + 1] for name, column in inputs.items()}
                explained[index] = await in_background(model.by_outputs, background, one, outputs[row])
        return explained


def _training_sample(loaded: LoadedVersion, inputs: FeatureColumns) -> FeatureColumns | None:
    """Return the training rows of a version with a column for each input; None if it has too few.

    An input that the version does not have contributes nothing, whatever its value is.
    """
    rows = 0 if loaded.batch is None else len(loaded.batch.outputs)
    if loaded.batch is None or rows < OTHER_ROWS_MIN:
        return None
    columns = loaded.batch.columns
    return {
        name: columns[name] if name in columns else np.resize(each, rows) for name, each in inputs.items()
    }


def _without(background: FeatureColumns, errors: RowErrors) -> FeatureColumns:
    """Return the rows of the background that the version answers; raise `NoBackgroundError` if none."""
    if not errors:
        return background
    if len(errors) == len(next(iter(background.values()))):
        raise NoBackgroundError(
            f"no background: the version fails on every recent row: {next(iter(errors.values()))}"
        )
    return {name: np.delete(column, list(errors)) for name, column in background.items()}


class _DeadlineModel:
    """One version, which is called until a deadline and no longer."""

    def __init__(self, model: Model, task: PredictionTask, deadline_seconds: float) -> None:
        self._model = model
        self._task = task
        self._deadline_seconds = deadline_seconds

    def by_structure(
        self, background: FeatureColumns, rows: FeatureColumns, outputs: npt.NDArray[np.float64]
    ) -> list[Explanation | None]:
        """Explain rows by the structure of the model; all None if it is not known."""
        structure = self._model.structure if isinstance(self._model, SklearnModel) else None
        if structure is None:
            return [None] * len(outputs)
        assert isinstance(self._model, SklearnModel)
        explained = ExplainedRows(
            list(rows),
            background,
            self._predict(background),
            rows,
            outputs,
            [_predicted_class(one) for one in outputs],
        )
        return shap_values.by_structure(structure, explained, self._model.class_order)

    def by_outputs(
        self, background: FeatureColumns, row: FeatureColumns, output: npt.NDArray[np.float64]
    ) -> Explanation | None:
        """Explain one row, given as columns of length 1, by the outputs of the model."""
        predicted = _predicted_class(output)

        def predict(columns: FeatureColumns) -> npt.NDArray[np.float64]:
            outputs = self._predict(columns)
            return outputs if predicted is None else outputs[:, predicted]

        return shap_values.by_outputs(predict, background, row)

    def _predict(self, columns: FeatureColumns) -> npt.NDArray[np.float64]:
        if time.monotonic() > self._deadline_seconds:
            raise TimeoutError
        return self._task.checked(self._model.predict(columns), len(next(iter(columns.values()))))


def _predicted_class(output: Any) -> int | None:
    """Return the index of the predicted class; None if the output is not a row of probabilities."""
    return int(np.argmax(output)) if np.ndim(output) else None


def to_json(explanation: Explanation | None, names: Sequence[str]) -> Mapping[str, object] | None:
    """Return the JSON object of an explanation, with the contributions by feature name."""
    if explanation is None:
        return None
    return {
        "base_value": explanation.base_value,
        "contributions": dict(zip(names, explanation.contributions, strict=True)),
        "method": explanation.method,
    }
