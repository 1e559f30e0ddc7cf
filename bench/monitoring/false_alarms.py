"""False alarms of the whole model against its budget, where nothing changes."""

import functools
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from bench.monitoring import generators, traffic
from bench.monitoring.generators import Values
from bench.monitoring.table import Case, Table, Worst
from bench.monitoring.traffic import ROWS_A_DAY, Monitored, Traffic
from bench.report import Figures
from services.runtime.declaration import DAY_MS, MONTH_MS

FEATURES = 4
PATIENCE_ROWS = 20_000
ROWS = 20_000
WINDOW_HOURS = 4
SEEDS = 8
TEXT = f"""A model with {FEATURES} features of one kind, independent of each other, and a score;
{ROWS_A_DAY} rows a day, windows of {WINDOW_HOURS} hours. The budget is one false alarm in {PATIENCE_ROWS:,}
rows for the whole model. Each of {SEEDS} seeds has its own reference and {ROWS:,} rows of the same kind;
after an alarm the engine goes on, with its resets. The share of the budget is the number of alarms raised
divided by the number allowed: the guarantee holds where it is at most 1. An active alarm is not raised
again, so the share of windows at whose end one is active counts, too. Drifted windows are those whose report
calls a feature drifted."""


class Make(Protocol):
    """Returns values ``(n_rows, n_features)`` of one kind."""

    def __call__(self, random: np.random.Generator, rows: int, features: int) -> Values: ...


def table() -> Table:
    """Return the table."""
    cases = {
        name: Case(functools.partial(_measure, make, known_rows, block_hours), SEEDS)
        for name, make, known_rows, block_hours in _cases()
    }
    worst = {"false_alarms_share_of_budget": Worst("share_of_budget")}
    return Table("False alarms", TEXT, cases, _summarize, worst)


def _cases() -> Iterator[tuple[str, Make, int, int]]:
    """Yield name, kind, rows of the reference, and the declared hours of a block."""
    for rows in (50, 200, 2_000, 20_000, 200_000):
        yield f"independent, reference of {rows:,} rows", generators.independent, rows, 24
    for coefficient in (0.9, 0.99):
        make = functools.partial(generators.autoregression, coefficient=coefficient)
        yield f"autoregression of {coefficient}, reference of 30 days", make, 30 * ROWS_A_DAY, 24
    for share in (0.01, 0.03):
        for blocks in (100, 400):
            burst = functools.partial(generators.bursts, share=share)
            name = f"bursts in {share:.0%} of the blocks of 64 rows, reference of {blocks} blocks"
            yield name, burst, blocks * 64, 24
    for share in (0.01, 0.05):
        for blocks in (100, 400):
            wet = functools.partial(generators.rain, wet_share=share)
            name = f"rain in {share:.0%} of the blocks of 64 rows, reference of {blocks} blocks"
            yield name, wet, blocks * 64, 24
    for correlation in (0.2, 0.5):
        for rows in (64, 256, 1024):
            related = functools.partial(
                generators.correlated_blocks, correlation=correlation, block_rows=rows
            )
            name = f"correlations of ±{correlation} by block of {rows:,} rows, reference of 100 blocks"
            yield name, related, 100 * rows, 48 if rows > ROWS_A_DAY else 24


def _measure(make: Make, known_rows: int, block_hours: int, seed: int) -> Figures:
    random = np.random.default_rng([seed, known_rows])
    names = [f"x{number}" for number in range(FEATURES)]
    budget = MONTH_MS / DAY_MS * ROWS_A_DAY / PATIENCE_ROWS
    declared = traffic.declaration(
        names,
        block_hours=block_hours,
        alarm_windows=1,
        window_hours=WINDOW_HOURS,
        false_alarms_per_month=budget,
    )
    known = traffic.known_reference(declared, traffic.columns_of(names, make(random, known_rows, FEATURES)))
    monitored = Monitored(declared, known)
    columns = traffic.columns_of(names, make(random, ROWS, FEATURES))
    monitored.play(Traffic(traffic.times(ROWS), columns, generators.scores(random, ROWS)))
    windows = monitored.reports
    return {
        "alarms": len(monitored.alarms),
        "drifted": sum(any(each.drifted for each in window.features) for window in windows),
        "standing": sum(bool(window.alarms_standing) for window in windows),
        "windows": len(windows),
    }


def _summarize(runs: Sequence[Figures]) -> Figures:
    alarms, allowed = sum(run["alarms"] for run in runs), len(runs) * ROWS / PATIENCE_ROWS
    drifted, standing, windows = (
        sum(run[name] for run in runs) for name in ("drifted", "standing", "windows")
    )
    return {
        "share_of_budget": alarms / allowed,
        "standing_share": standing / windows,
        "drifted_windows_share": drifted / windows,
    }
