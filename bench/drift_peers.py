"""Tools that compare window by window, on the streams that the detectors get: false alarms and delays.

Each tool gives a window its score, as shipped: Evidently the normed Wasserstein distance of numbers and the
Jensen-Shannon distance of categories, NannyML the Jensen-Shannon distance of both. False alarms are counted
at its own threshold; delays at the one where calm windows have the mean run length of all contenders.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench import drift_streams as streams
from bench import drift_windows
from bench.drift_streams import Stream
from bench.report import Figures

WINDOW_ROWS = 250
CALM_WINDOWS = 10
CALM_COLUMNS = 100
"""Each with its own reference: 1,000 calm windows of either kind."""
FEATURES = (1, 50, 500)


class Scores:
    """What a tool says of the windows of several streams."""

    def __init__(self, found: Mapping[str, Any]) -> None:
        self.scores = np.array(found["scores"], dtype=np.float64)
        """Shape ``(n_windows, n_streams)``; larger is more drift."""
        self.alerts = np.array(found["alerts"], dtype=bool)


def measure(
    run_rows: int, calm_rows: int, shifts: Mapping[str, Sequence[Stream]]
) -> tuple[dict[str, Figures], dict[str, dict[str, Figures]]]:
    """Return the false alarms of each tool, and its delays by shift."""
    calm_of = {
        kind: [make(0, CALM_WINDOWS * WINDOW_ROWS, seed) for seed in range(CALM_COLUMNS)]
        for kind, make in streams.CALM.items()
    }
    false_alarms: dict[str, Figures] = {}
    delays: dict[str, dict[str, Figures]] = {shift: {} for shift in shifts}
    for peer in drift_windows.PEERS:
        found = _scores_of(peer, calm_of | dict(shifts))
        false_alarms |= _false_alarms(peer, found["numbers"])
        for shift in shifts:
            calm = found["categories" if shift == streams.CATEGORIES else "numbers"]
            delays[shift][f"{peer}, windows of {WINDOW_ROWS}"] = _delays(
                calm.scores, found[shift].scores, run_rows, calm_rows
            )
    return false_alarms, delays


def _scores_of(peer: str, cases: Mapping[str, Sequence[Stream]]) -> dict[str, Scores]:
    with tempfile.TemporaryDirectory(prefix="driftline-bench-") as folder:
        for name, of_case in cases.items():
            place = Path(folder) / name
            place.mkdir()
            _frame([stream.known for stream in of_case]).to_parquet(place / "known.parquet")
            _frame([stream.seen for stream in of_case]).to_parquet(place / "seen.parquet")
        found = drift_windows.run_job(peer, folder, str(WINDOW_ROWS))
    return {name: Scores(of_case) for name, of_case in found.items()}


def _frame(columns: Sequence[streams.Column]) -> pd.DataFrame:
    """Categories are text, or they would be taken for numbers."""
    named = {f"s{number}": column for number, column in enumerate(columns)}
    return pd.DataFrame(
        {
            name: column if column.dtype == np.float64 else np.char.add("c", column.astype(str))
            for name, column in named.items()
        }
    )


def _false_alarms(peer: str, calm: Scores) -> dict[str, Figures]:
    """Count calm windows with an alert in any of so many features; windows of several make those of more."""
    alerts: npt.NDArray[np.bool_] = calm.alerts.reshape(-1)
    found: dict[str, Figures] = {}
    for features in [each for each in FEATURES if each <= alerts.size]:
        whole = alerts.size // features * features
        windows: npt.NDArray[np.bool_] = alerts[:whole].reshape(-1, features).max(axis=1)
        share = float(windows.mean())
        figures = {"windows": float(windows.size), "windows_with_alarm_share": share}
        if share:
            figures["run_rows"] = WINDOW_ROWS / share
        found[f"{peer}, {features} features, windows of {WINDOW_ROWS}"] = figures
    return found


def _delays(calm: streams.Sample, shifted: streams.Sample, run_rows: int, calm_rows: int) -> Figures:
    """Measure rows from the change to the end of the first window with at least the calibrated score."""
    allowed = int(calm.size * WINDOW_ROWS / run_rows)
    threshold = np.sort(calm.reshape(-1))[-(allowed + 1)]
    reached = shifted[calm_rows // WINDOW_ROWS :] > threshold
    found = reached.any(axis=0)
    figures = {
        "missed_share": float(1 - found.mean()),
        "false_alarms": float((shifted[: calm_rows // WINDOW_ROWS] > threshold).sum() / shifted.shape[1]),
        "run_rows": calm.size * WINDOW_ROWS / max(int((calm > threshold).sum()), 1),
    }
    if found.any():
        figures["delay_rows"] = float(np.median((reached[:, found].argmax(axis=0) + 1) * WINDOW_ROWS))
    return figures
