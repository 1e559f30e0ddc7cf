"""Evidently, as shipped. Arguments: a folder, each case two Parquet files; rows of a window or nothing.

Without windows, it runs the preset for data drift. With windows, it runs the tests that the preset chooses
for a reference of more than 1,000 rows, column by column and without the report, which would take ten times
as long.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
from evidently import Dataset, Report
from evidently.legacy.calculations.stattests import jensenshannon_stat_test, wasserstein_stat_test
from evidently.legacy.core import ColumnType
from evidently.presets import DataDriftPreset

THRESHOLD = 0.1


def main() -> None:
    """Print the results of each case."""
    cases = sorted(Path(sys.argv[1]).iterdir())
    if len(sys.argv) > 2:
        print(json.dumps({case.name: windows(case, int(sys.argv[2])) for case in cases}))
        return
    preset(cases[-1])  # the first run is slower and does not count
    print(json.dumps({case.name: preset(case) for case in cases}))


def preset(case: Path) -> dict[str, float]:
    """Run the preset; return its duration and the number of columns that drifted."""
    known, seen = frames(case)
    started = time.perf_counter()
    snapshot = Report([DataDriftPreset()]).run(Dataset.from_pandas(seen), Dataset.from_pandas(known))
    metrics = json.loads(snapshot.json())["metrics"]
    seconds = time.perf_counter() - started
    drifted = next(each["value"]["count"] for each in metrics if "count" in str(each["value"]))
    return {"seconds": seconds, "drifted_features": drifted, "peak_mib": peak_mib()}


def windows(case: Path, rows: int) -> dict[str, Any]:
    """Score every window of every column."""
    known, seen = frames(case)
    parts = [seen.iloc[start : start + rows] for start in range(0, len(seen), rows)]
    scores = [[score(known[name], part[name]) for name in seen.columns] for part in parts]
    return {"scores": scores, "alerts": [[value >= THRESHOLD for value in line] for line in scores]}


def score(known: pd.Series, part: pd.Series) -> float:
    """Return the distance of one column's window."""
    if known.dtype == object:
        test, kind = jensenshannon_stat_test, ColumnType.Categorical
    else:
        test, kind = wasserstein_stat_test, ColumnType.Numerical
    return float(test.func(known, part, kind, THRESHOLD)[0])


def peak_mib() -> float:
    """Return the peak memory of this process, without that of its parent."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024


def frames(case: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read a case."""
    return pd.read_parquet(case / "known.parquet"), pd.read_parquet(case / "seen.parquet")


if __name__ == "__main__":
    main()
