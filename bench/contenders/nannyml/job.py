"""NannyML's univariate drift, as shipped. Arguments: a folder, each case two files; rows of a window."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import nannyml
import pandas as pd


def main() -> None:
    """Print the results of each case."""
    cases = sorted(Path(sys.argv[1]).iterdir())
    if len(sys.argv) > 2:
        print(json.dumps({case.name: windows(case, int(sys.argv[2])) for case in cases}))
        return
    whole(cases[-1])  # the first run is slower and does not count
    print(json.dumps({case.name: whole(case) for case in cases}))


def whole(case: Path) -> dict[str, float]:
    """Compare all rows; return the duration and the number of columns with an alert."""
    known, seen = frames(case)
    started = time.perf_counter()
    results = calculate(known, seen)
    seconds = time.perf_counter() - started
    drifted = sum(bool(of(results, name, "alert").any()) for name in known.columns)
    return {"seconds": seconds, "drifted_features": drifted, "peak_mib": peak_mib()}


def windows(case: Path, rows: int) -> dict[str, Any]:
    """Score every window of every column."""
    known, seen = frames(case)
    results = calculate(known, seen, chunk_size=rows)
    scores = [of(results, name, "value").astype(float).tolist() for name in seen.columns]
    alerts = [of(results, name, "alert").astype(bool).tolist() for name in seen.columns]
    return {
        "scores": [list(line) for line in zip(*scores, strict=True)],
        "alerts": [list(line) for line in zip(*alerts, strict=True)],
    }


def calculate(known: pd.DataFrame, seen: pd.DataFrame, **options: Any) -> pd.DataFrame:
    """Return NannyML's table of results."""
    calculator = nannyml.UnivariateDriftCalculator(column_names=list(known.columns), **options)
    table: pd.DataFrame = calculator.fit(known).calculate(seen).filter(period="analysis").to_df()
    return table


def of(results: pd.DataFrame, column: str, figure: str) -> pd.Series:
    """Return one figure of one column, by window."""
    return results.loc[:, next(name for name in results.columns if name[0] == column and name[-1] == figure)]


def peak_mib() -> float:
    """Return the peak memory of this process, without that of its parent."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024


def frames(case: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read a case."""
    return pd.read_parquet(case / "known.parquet"), pd.read_parquet(case / "seen.parquet")


if __name__ == "__main__":
    main()
