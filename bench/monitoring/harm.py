"""The delay until real harm leads to a request for a retraining."""

import functools
from collections.abc import Sequence

import numpy as np

from bench.monitoring import generators, retrainings
from bench.monitoring.retrainings import (
    HELD_OUT_ROWS,
    HELD_OUT_SEEDS,
    TOLERANCE,
    Delays,
    by_class,
    within_a_day,
)
from bench.monitoring.table import Case, Table
from bench.monitoring.traffic import START_MS, Monitored
from bench.report import Figures
from services.runtime.declaration import DAY_MS

HARMS = (0.02, 0.05, 0.1)
CALM_DAYS, HARM_DAYS = 60, 180
SEEDS_BY_RATE = {30: 6, 100: 6, 300: 8, 3_000: 2}
"""Seeds by labels a day."""
TEXT = f"""The same model. After {CALM_DAYS} days all odds change by one factor, so that the mean log loss
is above the limit (the expected one plus {TOLERANCE}) by the harm. The delay is the median of the days from
then to the first request; those without one within {HARM_DAYS} days count as {HARM_DAYS}, and as missed. A
request by chance counts, too: read the delays beside the table above. References of {HELD_OUT_ROWS[0]} to
{HELD_OUT_ROWS[-1]:,} held-out rows have a mean loss by chance; the others have the expected one."""


def table() -> Table:
    """Return the table."""
    cases = (
        {
            f"harm of {harm}, {rate:,} labels a day": Case(
                functools.partial(_measure, harm, rate, within_a_day), seeds
            )
            for harm in HARMS
            for rate, seeds in SEEDS_BY_RATE.items()
        }
        | {
            f"harm of {harm}, 300 labels a day, delays by class": Case(
                functools.partial(_measure, harm, 300, by_class), 3
            )
            for harm in HARMS
        }
        | {
            f"harm of {harm}, 300 labels a day, reference of {rows:,} held-out rows": Case(
                functools.partial(_measure, harm, 300, within_a_day, held_out=rows), HELD_OUT_SEEDS
            )
            for harm in HARMS[1:]
            for rows in HELD_OUT_ROWS
        }
    )
    return Table("Delay until real harm is found", TEXT, cases, _summarize)


def _measure(harm: float, rate: int, delays: Delays, seed: int, held_out: int = 0) -> Figures:
    random = np.random.default_rng([seed, rate])
    monitored = retrainings.monitored_model(rate, retrainings.held_out_by_chance(random, held_out))
    scores = generators.scores(random, (CALM_DAYS + HARM_DAYS) * rate)
    calm_rows = CALM_DAYS * rate
    worse = generators.worse(scores[calm_rows:], TOLERANCE + harm)
    chances = np.concatenate([scores[:calm_rows], worse])
    monitored.play(
        retrainings.labelled(random, scores, chances, rate, delays),
        stop=lambda each: _delay_days(each) is not None,
    )
    delay = _delay_days(monitored)
    return {"delay_days": HARM_DAYS if delay is None else delay, "missed": delay is None}


def _delay_days(monitored: Monitored) -> float | None:
    """Return the days from the harm to the first request after it."""
    begin_ms = START_MS + CALM_DAYS * DAY_MS
    delays = [
        each.requested_at_ms - begin_ms for each in monitored.requests if each.requested_at_ms > begin_ms
    ]
    return delays[0] / DAY_MS if delays else None


def _summarize(runs: Sequence[Figures]) -> Figures:
    return {
        "delay_days": float(np.median([run["delay_days"] for run in runs])),
        "missed_share": sum(run["missed"] for run in runs) / len(runs),
    }
