"""Detection delays of six kinds of change, for values that depend on each other more or less."""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bench.monitoring import generators, traffic
from bench.monitoring.generators import Values
from bench.monitoring.table import Case, Table, Worst
from bench.monitoring.traffic import ROWS_A_DAY, START_MS, Monitored, Traffic
from bench.report import Figures
from services.runtime.declaration import DAY_MS
from streams import records

KNOWN_DAYS = 30
CALM_DAYS = 14
DAYS = 180
STEADY = 2
SEEDS = 3
MEAN_SD, SPREAD, CORRELATION = 1.0, 2.0, 0.8
REGIONS, SHARES = ("a", "b", "c", "d"), (0.5, 0.3, 0.1, 0.1)


class Dependence(NamedTuple):
    """How values depend on each other: the level of its block is a share of the variance of a value."""

    block_days: int
    share: float


DEPENDENCES = {1: Dependence(1, 0.0), 100: Dependence(1, 0.068), 4600: Dependence(3, 0.63)}
"""By the design effect that a reference of `KNOWN_DAYS` days measures."""
NULL = "all values missing"
ABOVE = 100.0
"""A value above the range of the reference."""
CHANGES = (
    NULL,
    "a category from 1 in 27,000 rows to half",
    f"mean {MEAN_SD:+g} sd",
    f"sd times {SPREAD:g}",
    f"correlation 0 to {CORRELATION}",
    f"mean {MEAN_SD:+g} sd in one segment of 30% of the rows",
    "all values missing in one segment of 10% of the rows",
    "all values above the range",
)
TEXT = f"""{ROWS_A_DAY} rows a day, windows of a day, a reference of {KNOWN_DAYS} days, the default budget
of 0.1 false alarms a month. After {CALM_DAYS} calm days one feature changes for good, or its relation to a
second one; {STEADY} more do not change. For a design effect of 100 the level of a day is 7% of the variance
of a value, for 4,600 that of three days is 63%. The delay is the median of {SEEDS} seeds, in days until the
first alarm that names the feature (both features, or the segment); those not found within {DAYS} days count
as {DAYS}, and as missed."""


def table() -> Table:
    """Return the table."""
    cases = {
        f"{change}, design effect {effect:,}": Case(functools.partial(_measure, change, effect), SEEDS)
        for change in CHANGES
        for effect in DEPENDENCES
    }
    worst = {"all_null_windows_to_alarm": Worst("worst_windows", NULL)}
    return Table("Detection delay", TEXT, cases, _summarize, worst)


def _measure(change: str, effect: int, seed: int) -> Figures:
    depends = DEPENDENCES[effect]
    random = np.random.default_rng([seed, effect])
    known_rows, rows = KNOWN_DAYS * ROWS_A_DAY, (CALM_DAYS + DAYS) * ROWS_A_DAY
    known_values = _latent(random, known_rows, depends, even=True)
    known_columns = _columns(random, change, known_values, calm_rows=known_rows)
    known_columns["x"] = _with_rare(known_columns["x"])
    declared = traffic.declaration(
        list(known_columns),
        block_hours=24 * depends.block_days,
        segments=["region"] if "segment" in change else [],
    )
    monitored = Monitored(declared, traffic.known_reference(declared, known_columns))
    columns = _columns(
        random, change, _latent(random, rows, depends, even=False), calm_rows=CALM_DAYS * ROWS_A_DAY
    )
    found = functools.partial(_found, change)
    monitored.play(
        Traffic(traffic.times(rows), columns, generators.scores(random, rows)),
        stop=lambda each: found(each.alarms) is not None,
    )
    alarm = found(monitored.alarms)
    delay_ms = DAYS * DAY_MS if alarm is None else alarm.detected_at_ms - _changed_at_ms()
    return {"delay_days": delay_ms / DAY_MS, "missed": alarm is None}


def _latent(random: np.random.Generator, rows: int, depends: Dependence, *, even: bool) -> Values:
    block_rows = depends.block_days * ROWS_A_DAY
    return generators.levels(random, rows, 2 + STEADY, depends.share, block_rows, even=even)


def _columns(
    random: np.random.Generator, change: str, values: Values, *, calm_rows: int
) -> dict[str, npt.NDArray[Any]]:
    """Return the columns for standard normal values ``(n_rows, n_features)``; the first ones change."""
    names = ["x", "y", *(f"steady{number}" for number in range(STEADY))]
    columns: dict[str, npt.NDArray[Any]] = dict(traffic.columns_of(names, values))
    changed = np.arange(len(values)) >= calm_rows
    x = columns["x"]
    if change == NULL:
        columns["x"] = np.where(changed, np.nan, x)
    elif "category" in change:
        rare = changed & (random.random(len(x)) < 0.5)
        columns["x"] = np.where(rare, "rare", np.where(x > 0.5, "high", "low")).astype(object)
    elif "correlation" in change:
        mixed = CORRELATION * x + math.sqrt(1 - CORRELATION**2) * columns["y"]
        columns["y"] = np.where(changed, mixed, columns["y"])
    elif "segment" in change:
        columns["region"] = random.choice(REGIONS, len(x), p=SHARES).astype(object)
        inside = changed & (columns["region"] == _region(change))
        columns["x"] = np.where(inside, np.nan, x) if NULL in change else x + MEAN_SD * inside
    elif "above" in change:
        columns["x"] = np.where(changed, ABOVE, x)
    elif "mean" in change:
        columns["x"] = x + MEAN_SD * changed
    else:
        columns["x"] = np.where(changed, SPREAD * x, x)
    return columns


def _region(change: str) -> str:
    """Return the segment that changes: one of 30% of the rows, or one of 10%."""
    return REGIONS[1] if "30%" in change else REGIONS[2]


def _with_rare(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the values of the reference; of texts one row is of the rare category."""
    if values.dtype == object:
        values[len(values) // 2] = "rare"
    return values


def _found(change: str, alarms: Sequence[records.DriftAlarm]) -> records.DriftAlarm | None:
    """Return the first alarm after the change that names what changed."""
    names = ("x", "y") if "correlation" in change else ("x",)
    segment = f"region={_region(change)}" if "segment" in change else None
    for alarm in alarms:
        is_meant = traffic.concerns(alarm, *names) and segment in {None, alarm.segment}
        is_kind = (alarm.kind == "relation") == (len(names) > 1)
        if is_meant and is_kind and alarm.detected_at_ms >= _changed_at_ms():
            return alarm
    return None


def _changed_at_ms() -> int:
    return START_MS + CALM_DAYS * DAY_MS


def _summarize(runs: Sequence[Figures]) -> Figures:
    return {
        "delay_days": float(np.median([run["delay_days"] for run in runs])),
        "worst_windows": max(math.ceil(run["delay_days"]) for run in runs),
        "missed_share": sum(run["missed"] for run in runs) / len(runs),
    }
