"""NannyML's univariate drift, as shipped. Argument: a folder, each case two Parquet files."""

import json
import resource
import sys
import time
from pathlib import Path

import nannyml
import pandas as pd


def main() -> None:
    """Print for each case how long it took and which columns drifted."""
    found = {}
    for case in sorted(Path(sys.argv[1]).iterdir()):
        known, seen = (pd.read_parquet(case / f"{name}.parquet") for name in ("known", "seen"))
        columns = list(known.columns)
        started = time.perf_counter()
        calculator = nannyml.UnivariateDriftCalculator(column_names=columns)
        results = calculator.fit(known).calculate(seen).filter(period="analysis").to_df()
        seconds = time.perf_counter() - started
        alerts = results.loc[:, [name for name in results.columns if name[-1] == "alert"]]
        by_column = {name: bool(alerts[name].to_numpy().any()) for name in columns}
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        found[case.name] = {
            "seconds": seconds,
            "drifted_features": sum(by_column.values()),
            "peak_mib": peak_mib,
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
