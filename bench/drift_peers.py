"""Tools that compare windows, on the same streams as the detectors: false alarms and delays.

Each tool scores a window with its defaults: Evidently with the normed Wasserstein distance of numbers and the
Jensen-Shannon distance of categories, NannyML with the Jensen-Shannon distance of both. False alarms are
counted at the tool's own threshold; delays at the threshold where unchanged windows have the run length of
all contenders.
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
"""Streams, each with its own reference: 1,000 unchanged windows of either kind."""
FEATURES = (1, 50, 500)


class Scores:
    """A tool's results for the windows of several streams."""

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
            case_folder = Path(folder) / name
            case_folder.mkdir()
            _frame([stream.known for stream in of_case]).to_parquet(case_folder / "known.parquet")
            _frame([stream.seen for stream in of_case]).to_parquet(case_folder / "seen.parquet")
        found = drift_windows.run_job(peer, folder, str(WINDOW_ROWS))
    return {name: Scores(of_case) for name, of_case in found.items()}


def _frame(columns: Sequence[streams.Column]) -> pd.DataFrame:
    """Return the columns as a frame; categories become text, so that tools do not read them as numbers."""
    named = {f"s{number}": column for number, column in enumerate(columns)}
    return pd.DataFrame(
        {
            name: column if column.dtype == np.float64 else np.char.add("c", column.astype(str))
            for name, column in named.items()
        }
    )


def _false_alarms(peer: str, calm: Scores) -> dict[str, Figures]:
    """Count unchanged windows with an alert in any feature; windows of single features are combined."""
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
    """Measure the rows from the change to the end of the first window above the calibrated threshold."""
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
