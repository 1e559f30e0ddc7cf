"""Why an answer is what it is: what each feature contributed to it, as Shapley values.

The contributions of a row and the base value, which is the mean answer to rows served recently, sum to the
row's score. How they are computed depends on the model: `services.scoring.explanations.shap_values`.
"""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from services.model_registry.contract import Model
from services.model_registry.sklearn_flavour.model import SklearnModel
from services.scoring.explanations import shap_values
from services.scoring.explanations.shap_values import Case, Explanation
from services.scoring.inference import Columns, Scorer
from streams import records

ROWS_MAX = 16
"""Of one request: of a model of which nothing is known, each costs some ten thousand rows."""
SECONDS_MAX = 30.0
"""For all rows of a request; the first one of a process imports the library, for several seconds."""
BACKGROUND_ROWS_MAX = 32
ADDED_ROWS_MAX = 4
"""Of one batch: so the background spans several of them."""


class Background:
    """Rows served recently: what the answer is compared with."""

    def __init__(self) -> None:
        """Start empty."""
        self._recent: deque[Columns] = deque(maxlen=BACKGROUND_ROWS_MAX // ADDED_ROWS_MAX)

    def add(self, columns: Columns) -> None:
        """Keep the last rows of a batch; a batch of few as it is, since all that is served stays as it is."""
        if len(next(iter(columns.values()))) > ADDED_ROWS_MAX:
            columns = {name: column[-ADDED_ROWS_MAX:].copy() for name, column in columns.items()}
        self._recent.append(columns)

    def columns(self) -> Columns:
        """Return the rows, the newest last."""
        kept = list(self._recent)
        return {name: np.concatenate([columns[name] for columns in kept]) for name in kept[-1]}


class Explainer:
    """Explains the answers of one model."""

    def __init__(self, scorer: Scorer) -> None:
        """Prepare; the library is imported when it is first needed."""
        self.background = Background()
        self._scorer = scorer

    async def explain(
        self, features: Columns, arms: Sequence[records.Arm], outputs: npt.NDArray[np.float64]
    ) -> list[Explanation | None]:
        """Explain n answers, of each row by the version that gave it; None where numbers overflow.

        Multiclass: it is the probability of the answered class that is explained. Takes no answer's turn on
        the model's threads. Raises `NotInstalledError`, and `TimeoutError` after `SECONDS_MAX`.
        """
        scorer, deadline = self._scorer, time.monotonic() + SECONDS_MAX
        inputs, background = scorer.inputs(features), scorer.inputs(self.background.columns())
        versions = np.array([arm.version for arm in arms])
        found: dict[int, Explanation | None] = {}
        for version in np.unique(versions).tolist():
            rows = np.flatnonzero(versions == version)
            model = _Bounded(await scorer.models.version(version), scorer, deadline)
            own = {name: column[rows] for name, column in inputs.items()}
            explained = await scorer.threads.run_behind(model.by_structure, background, own, outputs[rows])
            for place, row in enumerate(rows.tolist()):
                one = {name: column[row : row + 1] for name, column in inputs.items()}
                found[row] = explained[place] or await scorer.threads.run_behind(
                    model.by_answers, background, one, outputs[row]
                )
        return [found[row] for row in range(len(arms))]


class _Bounded:
    """One version, which is asked until a deadline and no longer."""

    def __init__(self, model: Model, scorer: Scorer, deadline_seconds: float) -> None:
        self._model = model
        self._task = scorer.task
        self._deadline_seconds = deadline_seconds

    def by_structure(
        self, background: Columns, rows: Columns, outputs: npt.NDArray[np.float64]
    ) -> list[Explanation | None]:
        """Explain rows by what is known of the model; None of each where that is too little."""
        structure = self._model.structure if isinstance(self._model, SklearnModel) else None
        if structure is None:
            return [None] * len(outputs)
        assert isinstance(self._model, SklearnModel)
        case = Case(
            list(rows),
            background,
            self._predict(background),
            rows,
            outputs,
            [_chosen(one) for one in outputs],
        )
        return shap_values.by_structure(structure, case, self._model.class_order)

    def by_answers(
        self, background: Columns, row: Columns, output: npt.NDArray[np.float64]
    ) -> Explanation | None:
        """Explain one row, given as columns of length 1, by what the model answers."""
        chosen = _chosen(output)

        def predict(columns: Columns) -> npt.NDArray[np.float64]:
            answers = self._predict(columns)
            return answers if chosen is None else answers[:, chosen]

        return shap_values.by_answers(predict, background, row)

    def _predict(self, columns: Columns) -> npt.NDArray[np.float64]:
        if time.monotonic() > self._deadline_seconds:
            raise TimeoutError
        return self._task.checked(self._model.predict(columns), len(next(iter(columns.values()))))


def _chosen(output: Any) -> int | None:
    """Return the class that an answer names; None where it is no row of probabilities."""
    return int(np.argmax(output)) if np.ndim(output) else None


def named(explanation: Explanation | None, names: Sequence[str]) -> Mapping[str, object] | None:
    """Return an explanation as it is told to people."""
    if explanation is None:
        return None
    return {
        "base_value": explanation.base_value,
        "contributions": dict(zip(names, explanation.contributions, strict=True)),
        "method": explanation.method,
    }
