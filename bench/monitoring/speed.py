"""Rows per second of the engine, by features, models and workers."""

import collections
import functools
import multiprocessing
import time
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bench.monitoring import generators, traffic
from bench.monitoring.table import Case, Table, Worst
from bench.monitoring.traffic import START_MS, Monitored, Traffic
from bench.report import Figures
from services.runtime import partition_shares
from services.runtime.declaration import HOUR_MS
from streams.producer import partition_of
from streams.topics import STATE_PARTITIONS

KNOWN_ROWS = 10_000
ROWS = 20_000
FIRST_ROWS = 64
CATEGORIES, SEGMENTS = 1_000, 20
WIDE_START = "50 features, one of 1,000 categories"
WIDE = f"{WIDE_START}, one with a season, 20 segments"
WIDE_SEASON = f"{WIDE_START} with a season, 20 segments"
TEXT = f"""Rows of all models within one window of an hour, which is closed at the end, without labels.
Decoded records and the first {FIRST_ROWS} rows of each model are outside the measured time. Workers are
processes that share the models, as the group of drift workers does. Rows per second are those of all workers
together, with a core for each, from the CPU time of the busiest one. CPU cost is the CPU time of a row
divided by that of a row of one model with 50 features, measured side by side. The wide models have a feature
of {CATEGORIES:,} categories and {SEGMENTS} segments; hour and weekday are the season of a number, or of the
categories. All other features are numbers. With 50 models a window has a fiftieth of the rows, so its end
costs more for each row.
Figures of this table depend on the machine."""


class Load(NamedTuple):
    """What is measured: models with so many features, shared by workers."""

    features: int
    models: int = 1
    workers: int = 1
    rows: int = ROWS
    seasonal: str = ""
    """Of a wide model, the feature that has a season."""


BASELINE = Load(50, rows=5_000)
LOADS = {
    "50 features, 1 model, 1 worker": Load(50),
    "50 features, 50 models, 1 worker": Load(50, 50),
    "50 features, 50 models, 2 workers": Load(50, 50, 2),
    "50 features, 50 models, 4 workers": Load(50, 50, 4),
    "500 features, 1 model, 1 worker": Load(500, rows=10_000),
    "500 features, 50 models, 1 worker": Load(500, 50, rows=10_000),
    "500 features, 50 models, 2 workers": Load(500, 50, 2, rows=10_000),
    "500 features, 50 models, 4 workers": Load(500, 50, 4, rows=10_000),
    WIDE: Load(50, rows=2_000, seasonal="x1"),
    WIDE_SEASON: Load(50, rows=2_000, seasonal="x0"),
}


def table() -> Table:
    """Return the table."""
    cases = {name: Case(functools.partial(_measure, load), 1) for name, load in LOADS.items()}
    worst = {"wide_over_plain_cost": Worst("cpu_cost", WIDE_START)}
    return Table("Rows a second", TEXT, cases, lambda runs: runs[0], worst, depends_on_machine=True)


def _measure(load: Load, seed: int) -> Figures:
    plain, spent = (_cpu_seconds(each, seed) for each in (BASELINE, load))
    cost_of_row = [sum(found) / _timed_rows(each) for each, found in ((BASELINE, plain), (load, spent))]
    return {
        "rows_per_second": _timed_rows(load) / max(spent),
        "cpu_cost": cost_of_row[1] / cost_of_row[0],
    }


def _timed_rows(load: Load) -> int:
    """Return the rows of all models but the first ones of each, before the time is taken."""
    return load.rows - load.models * FIRST_ROWS


def _cpu_seconds(load: Load, seed: int) -> list[float]:
    """Return the CPU time of each worker of a load; they run side by side."""
    results: multiprocessing.Queue[float] = multiprocessing.Queue()
    workers = [
        multiprocessing.Process(target=_work, args=(load, seed, number, results))
        for number in range(load.workers)
    ]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=1800) for _ in workers]
    for worker in workers:
        worker.join()
    return found


def _models_of(load: Load, worker: int) -> int:
    """Return the number of models that the group of workers gives to one of them."""
    names = (f"model{number}".encode() for number in range(load.models))
    models = collections.Counter(partition_of(name, STATE_PARTITIONS) for name in names)
    shares = partition_shares.share(
        dict.fromkeys(map(str, range(load.workers)), ()), STATE_PARTITIONS, models
    )
    return sum(models[partition] for partition in shares[str(worker)])


def _work(load: Load, seed: int, number: int, results: Any) -> None:
    """Play the rows of every model of one worker."""
    models = _models_of(load, number)
    rows = load.rows // load.models
    random = np.random.default_rng([seed, number])
    known = _columns(random, load, KNOWN_ROWS)
    wide: dict[str, Any] = {"season": {load.seasonal: ["hour", "weekday"]}, "segments": ["x0"]}
    declared = traffic.declaration(list(known), window_hours=1, **(wide if load.seasonal else {}))
    reference = traffic.known_reference(declared, known)
    made = Traffic(
        traffic.times(rows, rows * 24), _columns(random, load, rows), generators.scores(random, rows)
    )
    decoded = traffic.predictions(made, 0, rows)
    monitored = [Monitored(declared, reference) for _ in range(models)]
    for each in monitored:
        each.take(decoded[:FIRST_ROWS])
        each.advance(decoded[FIRST_ROWS].event_time_ms)
    start = time.process_time()
    for each in monitored:
        each.take(decoded[FIRST_ROWS:])
        each.advance(START_MS + HOUR_MS)
    results.put(time.process_time() - start)


def _columns(random: np.random.Generator, load: Load, rows: int) -> dict[str, npt.NDArray[Any]]:
    names = [f"x{number}" for number in range(load.features)]
    columns: dict[str, npt.NDArray[Any]] = dict(
        traffic.columns_of(names, random.normal(size=(rows, load.features)))
    )
    if load.seasonal:
        ranks = np.minimum(random.zipf(1.3, rows), CATEGORIES)
        columns["x0"] = np.array([f"c{rank}" for rank in ranks], dtype=object)
    return columns
