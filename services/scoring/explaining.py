"""Why an answer is what it is: what each feature contributed to it, as Shapley values.

The contributions of a row and the base value, which is the mean answer to rows served recently, sum to the
row's score. They are estimated by Kernel SHAP (Lundberg and Lee, NeurIPS 2017) as the library ``shap`` does:
it asks any model for its answers alone, and compiles nothing at run time. That library's permutations do, for
seconds during which all answers would be slow.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from services.scoring.engine import Columns, Scorer
from streams import records

ROWS_MAX = 16
"""Of one request: each costs the model some ten thousand rows."""
SECONDS_MAX = 30.0
"""For all rows of a request; the first one of a process imports the library, for several seconds."""
BACKGROUND_ROWS_MAX = 32
ADDED_ROWS_MAX = 4
"""Of one batch: so the background spans several of them."""
COALITIONS_MAX = 512
"""Sets of features that are tried for a row; up to nine features, these are all there are."""

Predict = Callable[[Columns], npt.NDArray[np.float64]]


class NotInstalledError(RuntimeError):
    """The optional packages are not there."""


class Explanation(NamedTuple):
    """Of one row."""

    base_value: float
    contributions: list[float]
    """In the order of the features."""


class Background:
    """Rows served recently: what the answer is compared with."""

    def __init__(self) -> None:
        """Start empty."""
        self._recent: deque[Columns] = deque(maxlen=BACKGROUND_ROWS_MAX // ADDED_ROWS_MAX)

    def add(self, columns: Columns) -> None:
        """Keep the last rows of a batch."""
        self._recent.append({name: column[-ADDED_ROWS_MAX:].copy() for name, column in columns.items()})

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
        found = []
        for row, arm in enumerate(arms):
            model = await scorer.models.version(arm.version)
            chosen = int(np.argmax(outputs[row])) if outputs.ndim == 2 else None

            def predict(columns: Columns, model: Any = model, chosen: int | None = chosen) -> Any:
                if time.monotonic() > deadline:
                    raise TimeoutError
                count = len(next(iter(columns.values())))
                answers = scorer.task.checked(model.predict(columns), count)
                return answers if chosen is None else answers[:, chosen]

            one = {name: column[row : row + 1] for name, column in inputs.items()}
            found.append(await scorer.threads.run_behind(explain, predict, background, one))
        return found


def explain(predict: Predict, background: Columns, row: Columns) -> Explanation | None:
    """Explain one row, given as columns of length 1; None where the arithmetic overflows. Blocking.

    The library compares numbers only. So it gets the place of each value among all those there are, and the
    model gets the values themselves, whatever their type.
    """
    try:
        import shap
    except ImportError as error:
        raise NotInstalledError("explanations need the optional packages: driftline[explain]") from error
    names = list(row)
    pool = {name: np.concatenate([background[name], row[name]]) for name in names}
    count = len(background[names[0]])

    def of_places(places: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        chosen = places.astype(np.int64)
        return predict({name: pool[name][chosen[:, index]] for index, name in enumerate(names)})

    def everywhere(place: int) -> npt.NDArray[np.float64]:
        return np.full((1, len(names)), float(place))

    with np.errstate(all="ignore"):
        explainer = shap.KernelExplainer(of_places, np.vstack([everywhere(place) for place in range(count)]))
        try:
            values = explainer.shap_values(everywhere(count), nsamples=COALITIONS_MAX, l1_reg=0, silent=True)
        except (ValueError, np.linalg.LinAlgError):  # of infinite differences
            return None
    explanation = Explanation(float(explainer.expected_value), np.asarray(values)[0].tolist())
    finite = np.isfinite([explanation.base_value, *explanation.contributions]).all()
    return explanation if finite else None


def named(explanation: Explanation | None, names: Sequence[str]) -> Mapping[str, object] | None:
    """Return an explanation as it is told to people."""
    if explanation is None:
        return None
    return {
        "base_value": explanation.base_value,
        "contributions": dict(zip(names, explanation.contributions, strict=True)),
    }
