"""Windows compared with a reference: the same cases for Driftline and for tools that work by window."""

import dataclasses
import json
import os
import resource
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench import environments
from bench.report import Figures
from services.drift.binning.bin_counts import BinCounts
from services.drift.windows.comparison import DriftThresholds, compare
from services.monitoring import reference

PEERS = ("evidently", "nannyml")
FEATURES = 50
JOB_SECONDS_MAX = 400
OURS_RUNS = 3
"""Runs of Driftline, of which the fastest counts. The other tools take seconds and run once, after a
warm-up."""
BIG = "a: 50 features x 100 k rows"


@dataclasses.dataclass(frozen=True)
class Case:
    """A reference, a window, and the number of features in which they differ."""

    known: pd.DataFrame
    seen: pd.DataFrame
    changed: int


def cases() -> dict[str, Case]:
    """Return a large case, and cases in which other tools are known to be wrong."""
    random = np.random.default_rng(1)

    def normal(rows: int, features: int, shift: float = 0.0) -> pd.DataFrame:
        values = random.normal(shift, 1, (rows, features))
        return pd.DataFrame(values, columns=[f"f{number}" for number in range(features)])

    shifted = normal(10_000, 10, 0.5)
    shifted.iloc[0] = 1e7
    few, many = random.choice(20, (1000, 20)).astype(str), random.choice(20, (10_000, 20)).astype(str)
    colours = pd.DataFrame({"colour": random.choice(list("abcdefgh"), 1000)})
    unseen = pd.DataFrame({"colour": [*random.choice(list("abcdefgh"), 999), "new"]})
    return {
        BIG: Case(normal(100_000, FEATURES), normal(100_000, FEATURES), 0),
        "b: nothing changes, 100 rows": Case(normal(10_000, FEATURES), normal(100, FEATURES), 0),
        "c: nothing changes, 1,000 rows": Case(normal(10_000, FEATURES), normal(1000, FEATURES), 0),
        "d: half a sd and one outlier of 1e7": Case(normal(100_000, 10), shifted, 10),
        "e: one value of a new category": Case(colours, unseen, 0),
        "f: nothing changes, 50 rows": Case(normal(10_000, FEATURES), normal(50, FEATURES), 0),
        "g: nothing changes, 1,000 rows of 20 categories, then 10,000": Case(
            pd.DataFrame(few).add_prefix("c"), pd.DataFrame(many).add_prefix("c"), 0
        ),
        "h: one value of 1e6 among 1,000": Case(normal(10_000, 10), _with_outlier(normal(1000, 10)), 0),
    }


def _with_outlier(values: pd.DataFrame) -> pd.DataFrame:
    values.iloc[0] = 1e6
    return values


def _seconds(figures: Figures) -> float:
    return figures["seconds"]


def measure() -> tuple[dict[str, dict[str, Figures]], dict[str, float]]:
    """Run all cases with all tools; return the figures by case, and Driftline's speed-up over each tool."""
    all_cases = cases()
    found: dict[str, dict[str, Figures]] = {name: {} for name in all_cases}
    with tempfile.TemporaryDirectory(prefix="driftline-bench-") as folder:
        for name, case in all_cases.items():
            case_folder = Path(folder) / name
            case_folder.mkdir()
            case.known.to_parquet(case_folder / "known.parquet")
            case.seen.to_parquet(case_folder / "seen.parquet")
            known, seen = (pd.read_parquet(case_folder / f"{half}.parquet") for half in ("known", "seen"))
            read = Case(known, seen, case.changed)
            found[name]["driftline"] = min((_ours(read) for _ in range(OURS_RUNS)), key=_seconds)
        for peer in PEERS:
            for name, figures in run_job(peer, folder).items():
                found[name][peer] = figures | {"changed_features": all_cases[name].changed}
    seconds = {name: figures["seconds"] for name, figures in found[BIG].items()}
    return found, {peer: seconds[peer] / seconds["driftline"] for peer in PEERS}


def _ours(case: Case) -> Figures:
    """Measure Driftline on the frame in memory; the reference is created in training, outside the time.

    It computes all statistics of a report, which include those of the other tools.
    """
    references = [
        reference.of_categories(str(name), column.to_numpy(dtype=object))
        if column.dtype == object
        else reference.of_numbers(str(name), column.to_numpy())
        for name, column in case.known.items()
    ]
    thresholds = DriftThresholds(psi=0.2, p_value=0.001 / len(references), new_category_share=0.01)
    started = time.perf_counter()
    features = [BinCounts(one) for one in references]
    for feature in features:
        feature.add(case.seen[feature.name].to_numpy())
    drifted = sum(compare(feature, thresholds).drift.drifted for feature in features)
    return {
        "seconds": time.perf_counter() - started,
        "drifted_features": drifted,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "changed_features": case.changed,
    }


def run_job(peer: str, folder: str, *arguments: str) -> dict[str, Any]:
    """Run a tool's job in its environment; return its results by case."""
    script = environments.CONTENDERS / peer / "job.py"
    command = [environments.python_of(peer), str(script), folder, *arguments]
    quiet = os.environ | {"NML_DISABLE_USAGE_LOGGING": "1", "DO_NOT_TRACK": "1"}
    done = subprocess.run(command, check=True, capture_output=True, timeout=JOB_SECONDS_MAX, env=quiet)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
