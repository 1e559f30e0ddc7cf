"""Retrainings that a perfectly calibrated model asks for."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from bench.monitoring import generators, traffic
from bench.monitoring.generators import Values
from bench.monitoring.table import Case, Table, Worst
from bench.monitoring.traffic import START_MS, HeldOut, Labels, Monitored, Traffic
from bench.report import Figures
from services.runtime.declaration import DAY_MS, MONTH_MS

TOLERANCE = 0.02
BUDGET_A_MONTH = 0.1
HORIZON_DAYS = 40
DAYS_BY_RATE = {30: 365, 100: 365, 300: 365, 3_000: 90}
"""Days by labels a day."""
SEEDS_BY_RATE = {30: 10, 100: 4, 300: 2, 3_000: 1}
HELD_OUT_ROWS = (200, 1_000, 10_000)
"""Sizes of references whose mean loss is one by chance."""
HELD_OUT_SEEDS = 6
KNOWN_ROWS = 5_000

Delays = Callable[[np.random.Generator, npt.NDArray[np.int8]], Values]
"""Returns the days until each label is known ``(n_rows,)``."""
TEXT = f"""A perfectly calibrated model with a log loss of 0.52, whose reference has exactly this loss;
tolerance {TOLERANCE}, other settings by default: at most one request in 14 days, none before 1,000 labels.
A year each ({DAYS_BY_RATE[3000]} days for 3,000 labels a day); the fewer labels, the more seeds. Where the
delay of a label depends on its class, positives are known within a week, evenly spread, negatives after 30
days; after a third of the time a second version with the same scores is promoted. At the limit: the mean
loss is the reference's plus the tolerance. References of {HELD_OUT_ROWS[0]} to {HELD_OUT_ROWS[-1]:,} held-out
rows have a mean loss by chance, with {HELD_OUT_SEEDS} seeds. The budget is {BUDGET_A_MONTH} alarms a month,
half of it for the loss: 0.6 loss alarms a year."""


def within_a_day(random: np.random.Generator, labels: npt.NDArray[np.int8]) -> Values:
    """Return the days until each label is known, whatever it is."""
    return random.random(len(labels))


def by_class(random: np.random.Generator, labels: npt.NDArray[np.int8]) -> Values:
    """Return the days until each label is known: positives are known first."""
    return np.where(labels == 1, 7 * random.random(len(labels)), 30.0)


DELAYS: Mapping[str, Delays] = {
    "known within a day": within_a_day,
    "delays by class, and a promotion": by_class,
}


def table() -> Table:
    """Return the table."""
    cases = {
        f"calibrated, {rate:,} labels a day, {name}": Case(
            functools.partial(_measure, rate, delays, 0.0, 0), SEEDS_BY_RATE[rate]
        )
        for name, delays in DELAYS.items()
        for rate in DAYS_BY_RATE
    }
    for rows in HELD_OUT_ROWS:
        few = functools.partial(_measure, 300, within_a_day, 0.0, rows)
        cases[f"reference of {rows:,} held-out rows, 300 labels a day"] = Case(few, HELD_OUT_SEEDS)
    limit = functools.partial(_measure, 300, within_a_day, TOLERANCE, 0)
    cases["loss at the limit, 300 labels a day"] = Case(limit, 2)
    worst = {"calm_retrainings_share_of_budget": Worst("share_of_budget", "calibrated")}
    return Table("Retrainings asked for without harm", TEXT, cases, _summarize, worst)


def monitored_model(rate: int, held_out: HeldOut | None = None) -> Monitored:
    """Return a monitored model with labels."""
    declared = traffic.declaration(
        ["x"],
        horizon_hours=24 * HORIZON_DAYS,
        loss_tolerance=TOLERANCE,
        false_alarms_per_month=BUDGET_A_MONTH,
    )
    columns = {"x": np.random.default_rng(0).normal(size=KNOWN_ROWS)}
    known = traffic.known_reference(declared, columns, rows_a_day=rate, held_out=held_out)
    return Monitored(declared, known)


def held_out_by_chance(random: np.random.Generator, rows: int) -> HeldOut | None:
    """Return scores and labels of held-out rows, with a mean loss by chance; None for no rows."""
    known = generators.scores(random, rows)
    return (known, generators.labels(random, known)) if rows else None


def labelled(
    random: np.random.Generator, scores: Values, chances: Values, rate: int, delays: Delays
) -> Traffic:
    """Return requests with these scores ``(n_rows,)``, and labels with these chances."""
    times_ms = traffic.times(len(scores), rate)
    labels = generators.labels(random, chances)
    known_ms = times_ms + (delays(random, labels) * DAY_MS).astype(np.int64)
    return Traffic(times_ms, {"x": random.normal(size=len(scores))}, scores, Labels.of(known_ms, labels))


def _measure(rate: int, delays: Delays, rise: float, held_out: int, seed: int) -> Figures:
    random = np.random.default_rng([seed, rate])
    days = DAYS_BY_RATE[rate]
    monitored = monitored_model(rate, held_out_by_chance(random, held_out))
    scores = generators.scores(random, days * rate)
    chances = generators.worse(scores, rise) if rise else scores
    made = labelled(random, scores, chances, rate, delays)
    if delays is by_class:
        made = dataclasses.replace(made, promoted_at_ms=START_MS + days // 3 * DAY_MS)
    monitored.play(made)
    return {
        "requests": len(monitored.requests),
        "alarms": sum(alarm.kind == "loss" for alarm in monitored.alarms),
        "days": days,
    }


def _summarize(runs: Sequence[Figures]) -> Figures:
    requests, alarms, days = (sum(run[name] for run in runs) for name in ("requests", "alarms", "days"))
    return {
        "retrainings_a_year": requests / days * 365,
        "loss_alarms_a_year": alarms / days * 365,
        "share_of_budget": requests / (days * DAY_MS / MONTH_MS) / BUDGET_A_MONTH,
    }
