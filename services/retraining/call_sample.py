"""Calls of candidate and champion on the same rows, timed in turn."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from services.model_registry.contract import Model
from services.model_registry.model_inputs import Columns
from services.retraining.gates import CallSample

CALLS = 300
"""Calls of each model: enough for an interval of the 99th percentile."""
ROWS_PER_CALL = 16
WARM_UP = 5
"""First calls that do not count: they load code and fill caches."""
Clock = Callable[[], float]


def measure(
    candidate: Model,
    champion: Model | None,
    columns: Columns,
    calls: int = CALLS,
    clock: Clock = time.perf_counter,
) -> tuple[CallSample, CallSample | None]:
    """Return the durations of calls of both models.

    The models take turns on the same rows, so that what slows down the machine slows down both.

    Args:
        candidate: Its `predict` is called.
        champion: The version that serves; None: there is none.
        columns: (n,) by feature as served, n > 0; each call gets the next `ROWS_PER_CALL` rows, again from
            the first row after the last one.
        calls: Number of calls of each model.
        clock: Seconds.
    """
    models = [candidate, *([] if champion is None else [champion])]
    rows = len(next(iter(columns.values())))
    seconds = np.empty((len(models), WARM_UP + calls))
    for call in range(WARM_UP + calls):
        taken = (call * ROWS_PER_CALL + np.arange(ROWS_PER_CALL)) % rows
        part: dict[str, Any] = {name: column[taken] for name, column in columns.items()}
        for number in range(len(models)):
            turn = (number + call) % len(models)
            began = clock()
            models[turn].predict(part)
            seconds[turn, call] = clock() - began
    samples = [
        CallSample(row[WARM_UP:], model.size_bytes) for row, model in zip(seconds, models, strict=True)
    ]
    return samples[0], samples[1] if champion is not None else None
