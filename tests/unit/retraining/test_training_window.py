import numpy as np
import pandas as pd
from sklearn.linear_model import LinearRegression

from services.retraining.candidate import Split
from services.retraining.training_window import choose, windows
from services.runtime.declaration import DAY_MS

DAYS, ROWS_A_DAY = 40, 50
TIMES_MS = np.arange(DAYS * ROWS_A_DAY, dtype=np.int64) * (DAY_MS // ROWS_A_DAY)
LATER = TIMES_MS >= 30 * DAY_MS
PARTS = Split(TIMES_MS < 29 * DAY_MS, LATER)
CHANGE_MS = 20 * DAY_MS


def chosen(change: float) -> str:
    """Return the window for a slope that changes by an amount."""
    random = np.random.default_rng(1)
    x = random.normal(size=len(TIMES_MS))
    labels = x * np.where(TIMES_MS < CHANGE_MS, 1.0, 1.0 + change) + random.normal(size=len(x))
    begins = windows(TIMES_MS[PARTS.trained], 5 * DAY_MS, CHANGE_MS, 100)
    choice = choose(
        lambda features, known: LinearRegression().fit(features, known),
        pd.DataFrame({"x": x}),
        labels,
        TIMES_MS,
        PARTS,
        begins,
        lambda estimator, rows: estimator.predict(rows),
        lambda outputs, known: np.abs(outputs - known),
        DAY_MS,
    )
    assert choice.from_ms == begins[choice.name]
    assert choice.differences.keys() == begins.keys()
    return choice.name


def test_rows_before_a_great_change_are_left_out():
    assert chosen(change=-3.0) in ("since_change", "recent")


def test_all_rows_are_used_if_nothing_changed():
    assert chosen(change=0.0) == "all"


def test_windows_with_few_rows_or_without_a_beginning_are_left_out():
    assert windows(TIMES_MS, None, None, 1) == {"all": 0}
    assert windows(TIMES_MS, DAY_MS // 2, CHANGE_MS, 100).keys() == {"all", "since_change"}
    assert windows(TIMES_MS, 100 * DAY_MS, -5, 1) == {"all": 0}


def test_all_rows_alone_need_no_training():
    choice = choose(
        lambda features, known: LinearRegression().fit(features, known),
        pd.DataFrame(),
        np.zeros(0),
        TIMES_MS,
        PARTS,
        {"all": 0},
        lambda *_: np.zeros(0),
        lambda *_: np.zeros(0),
        DAY_MS,
    )

    assert (choice.name, choice.from_ms) == ("all", 0)
