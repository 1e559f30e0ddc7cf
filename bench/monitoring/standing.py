"""Alarms raised during one lasting shift, and how long they are active after its end."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bench.monitoring import generators, traffic
from bench.monitoring.table import Case, Table, Worst
from bench.monitoring.traffic import ROWS_A_DAY, START_MS, Monitored, Traffic
from bench.report import Figures
from services.runtime.declaration import DAY_MS

KNOWN_DAYS, CALM_DAYS, SHIFT_DAYS, AFTER_DAYS = 30, 14, 180, 60
STEADY = 3
SEEDS = 2
SEGMENT = "region=b"


class Shift(NamedTuple):
    """One shift of the feature x."""

    sd: float
    """The rise of the mean in standard deviations; nan: all values are missing."""
    level_share: float
    """Share of the level of a day in the variance of a value."""
    in_segment: bool = False


SHIFTS = {
    "mean +1.0 sd, design effect 100": Shift(1.0, 0.068),
    "mean +0.4 sd, design effect 10": Shift(0.4, 0.006),
    "mean +0.15 sd, design effect 1": Shift(0.15, 0.0),
    "all values missing, design effect 100": Shift(np.nan, 0.068),
    "mean +1.0 sd in one segment of 10% of the rows, design effect 1": Shift(1.0, 0.0, in_segment=True),
}
TEXT = f"""{ROWS_A_DAY} rows a day, windows of a day, the default budget, a reference of {KNOWN_DAYS} days.
After {CALM_DAYS} calm days one feature shifts for {SHIFT_DAYS} days, then it is as before for {AFTER_DAYS}
days; {STEADY} features do not change. Counted are the alarms that name the feature (the largest number of
{SEEDS} seeds; one is right), the share of days after the first one at whose end none of them is active
although the shift lasts, and the days from the end of the shift until none is active (median; those that are
still active count as {AFTER_DAYS})."""


def table() -> Table:
    """Return the table."""
    cases = {name: Case(functools.partial(_measure, shift), SEEDS) for name, shift in SHIFTS.items()}
    worst = {"alarms_per_standing_shift": Worst("alarms_of_one_shift")}
    return Table("One standing shift", TEXT, cases, _summarize, worst)


def _measure(shift: Shift, seed: int) -> Figures:
    random = np.random.default_rng(seed)
    known_columns = _columns(random, shift, KNOWN_DAYS, even=True)
    declared = traffic.declaration(list(known_columns), segments=["region"] if shift.in_segment else [])
    monitored = Monitored(declared, traffic.known_reference(declared, known_columns))
    columns = _columns(random, shift, CALM_DAYS + SHIFT_DAYS + AFTER_DAYS, even=False)
    rows = len(columns["x"])
    times_ms = traffic.times(rows)
    begin_ms = START_MS + CALM_DAYS * DAY_MS
    end_ms = begin_ms + SHIFT_DAYS * DAY_MS
    shifted = (times_ms >= begin_ms) & (times_ms < end_ms)
    if shift.in_segment:
        shifted &= columns["region"] == "b"
    columns["x"] = np.where(shifted, columns["x"] + shift.sd, columns["x"])
    monitored.play(Traffic(times_ms, columns, generators.scores(random, rows)))
    return _counted(monitored, begin_ms, end_ms, SEGMENT if shift.in_segment else "")


def _columns(
    random: np.random.Generator, shift: Shift, days: int, *, even: bool
) -> dict[str, npt.NDArray[Any]]:
    values = generators.levels(
        random, days * ROWS_A_DAY, 1 + STEADY, shift.level_share, ROWS_A_DAY, even=even
    )
    names = ["x", *(f"steady{number}" for number in range(STEADY))]
    columns: dict[str, npt.NDArray[Any]] = dict(traffic.columns_of(names, values))
    if shift.in_segment:
        columns["region"] = random.choice(("a", "b", "c"), len(values), p=(0.6, 0.1, 0.3)).astype(object)
    return columns


def _counted(monitored: Monitored, begin_ms: int, end_ms: int, segment: str) -> Figures:
    """Count the alarms about x; of a shift in a segment those of the segment."""
    raised = [
        alarm
        for alarm in monitored.alarms
        if begin_ms <= alarm.detected_at_ms <= end_ms
        and alarm.kind != "relation"
        and traffic.concerns(alarm, "x")
        and alarm.segment == segment
    ]
    ids = {alarm.alarm_id for alarm in raised}
    since_ms = raised[0].detected_at_ms if raised else end_ms
    stands = {
        report.window_end_ms: bool(ids & set(report.alarms_standing or ())) for report in monitored.reports
    }
    within = [each for at_ms, each in stands.items() if since_ms <= at_ms <= end_ms]
    after = [at_ms for at_ms, each in stands.items() if at_ms > end_ms and each]
    return {
        "alarms": len(raised),
        "not_standing": 1 - sum(within) / len(within) if within else 1.0,
        "days_standing_after": (max(after) - end_ms) / DAY_MS if after else 0.0,
    }


def _summarize(runs: Sequence[Figures]) -> Figures:
    return {
        "alarms_of_one_shift": max(run["alarms"] for run in runs),
        "not_standing_share": max(run["not_standing"] for run in runs),
        "days_standing_after": float(np.median([run["days_standing_after"] for run in runs])),
    }
