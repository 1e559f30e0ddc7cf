"""Evidently's preset of data drift, as shipped. Argument: a folder, each case two Parquet files."""

import json
import resource
import sys
import time
from pathlib import Path

import pandas as pd
from evidently import Dataset, Report
from evidently.presets import DataDriftPreset


def main() -> None:
    """Print for each case how long it took and which columns drifted."""
    found = {}
    for case in sorted(Path(sys.argv[1]).iterdir()):
        known, seen = (pd.read_parquet(case / f"{name}.parquet") for name in ("known", "seen"))
        started = time.perf_counter()
        snapshot = Report([DataDriftPreset()]).run(Dataset.from_pandas(seen), Dataset.from_pandas(known))
        metrics = json.loads(snapshot.json())["metrics"]
        seconds = time.perf_counter() - started
        drifted = next(each["value"]["count"] for each in metrics if "count" in str(each["value"]))
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        found[case.name] = {"seconds": seconds, "drifted_features": drifted, "peak_mib": peak_mib}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
