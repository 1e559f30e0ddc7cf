"""Gates: how often an equal candidate is called better, and the power beside a rule of point estimates.

``make bench ONLY=gates`` judges simulated candidates on held-out days that depend on each other. The old rule
compared two mean losses. Every candidate differs from the truth by noise in its logit, of its own in each row
and for each day, with a correlation from day to day as that of the flights' differences (decision 40).
"""

import functools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bench import bad_candidates, report
from bench.report import Figures
from services.retraining.evaluation import Numbers
from services.retraining.gates import Evidence, GateResult, HeldOut, champion
from services.runtime.declaration import DAY_MS, Gates, ModelDeclaration

GATES = 2_000
POWER_GATES = 300
ALPHA = 0.05
CORRELATION = 0.3
"""Of the noise of a day with that of the day before."""
ROW_NOISE, DAY_NOISE = 0.4, 0.25
"""Standard deviations of a model's noise in the logit."""
OLD_MARGIN = 0.002
"""How much worse a candidate might be by the old rule, as the flights declared it."""
NOISES = (0.0, 0.5, 0.8, 1.0, 1.2, 1.4, 2.0)
"""The candidate's noise as a multiple of the champion's: with less it is better."""
Measured = tuple[dict[str, dict[str, Figures]], dict[str, float]]
"""Figures by measure and rule, and ratios."""


class Design(NamedTuple):
    """Held-out days."""

    days: int
    rows_a_day: int

    @property
    def times_ms(self) -> npt.NDArray[np.int64]:
        """Event times, one day after the other."""
        rows = np.arange(self.days * self.rows_a_day, dtype=np.int64)
        return rows * (DAY_MS // self.rows_a_day)


DESIGNS = {
    "7 days x 100": Design(7, 100),
    "14 days x 100": Design(14, 100),
    "14 days x 870": Design(14, 870),
    "28 days x 870": Design(28, 870),
}
DECLARATION = ModelDeclaration.model_validate(
    {
        "name": "simulated",
        "owner": "bench@driftline.example",
        "task": "binary",
        "request": {
            "topic": "asked",
            "id": "id",
            "event_time": "at",
            "schema": {"id": "string", "at": "timestamp", "x": "float"},
        },
        "features": {"from_request": ["x"]},
        "label": {
            "topic": "told",
            "id": "id",
            "event_time": "at",
            "value": "y",
            "positive_above": 0,
            "horizon_hours": 1,
            "schema": {"id": "string", "at": "timestamp", "y": "float"},
        },
    }
)


def main() -> None:
    """Measure and report."""
    measures: dict[str, dict[str, Figures]] = {}
    ratios: dict[str, float] = {}
    for part in (equal, power, functools.partial(bad_candidates.measure, DECLARATION)):
        found, own = part()
        measures |= found
        ratios |= own
    report.write_measures("gates", measures, ratios, f"{GATES:,} gates of equal candidates, alpha {ALPHA}")


def equal() -> Measured:
    """Return how often an equal candidate is called better; the ratio is the largest share by ``ALPHA``."""
    found = {
        f"equal candidate, {name}, correlation {correlation:g}": compare(design, 1.0, GATES, correlation)
        for name, design in DESIGNS.items()
        for correlation in (0.0, CORRELATION)
    }
    worst = max(each["gate"]["better"] for each in found.values())
    return found, {"false_better_of_alpha": worst / ALPHA}


def power() -> Measured:
    """Return the verdicts on candidates that are better or worse."""
    found = {
        f"candidate with {noise:g} times the noise, {name}": compare(design, noise, POWER_GATES)
        for name, design in DESIGNS.items()
        for noise in NOISES
    }
    return found, {}


def compare(design: Design, noise: float, gates: int, correlation: float = CORRELATION) -> dict[str, Figures]:
    """Return the shares of verdicts of the gate and of the old rule over simulated candidates."""
    found = [_verdicts(simulated(design, noise, correlation, seed)) for seed in range(gates)]
    kinds = {kind: figures.keys() for kind, figures in found[0].items()}
    return {
        kind: {name: float(np.mean([each[kind][name] for each in found])) for name in names}
        for kind, names in kinds.items()
    }


def simulated(design: Design, noise: float, correlation: float, seed: int) -> HeldOut:
    """Return held-out rows of a candidate and a champion that differ from the truth independently."""
    random = np.random.default_rng([seed, design.days, design.rows_a_day])
    rows = design.days * design.rows_a_day
    truth = -1.2 + _days(random, design, 0.5, correlation) + random.normal(size=rows)
    labels = (random.random(rows) < _share(truth)).astype(np.float64)
    own, other = (
        ROW_NOISE * random.normal(size=rows) + _days(random, design, DAY_NOISE, correlation) for _ in range(2)
    )
    return HeldOut(labels, _share(truth + noise * own), design.times_ms, _share(truth + other))


def _verdicts(held_out: HeldOut) -> dict[str, dict[str, float]]:
    better, not_worse = _check(held_out, 0.0), _check(held_out, -OLD_MARGIN)
    difference = better.numbers["difference"]
    return {
        "gate": {
            "better": better.outcome == "passed",
            "not_better": better.outcome == "failed",
            "not_enough_data": better.outcome == "not_enough_data",
        },
        "gate, may be worse by 0.002": {
            "passed": not_worse.outcome == "passed",
            "failed": not_worse.outcome == "failed",
        },
        "old rule": {"better": difference < 0, "may_be_worse_by_0.002": difference <= OLD_MARGIN},
    }


def _check(held_out: HeldOut, margin: float) -> GateResult:
    declaration = _declaration(margin)
    assert declaration.gates is not None
    (found,) = champion.check(declaration, declaration.gates, Evidence(held_out))
    return found


@functools.cache
def _declaration(margin: float) -> ModelDeclaration:
    gates = Gates(floor=1, margin=margin, alpha=ALPHA)
    return DECLARATION.model_copy(update={"gates": gates})


def _days(random: np.random.Generator, design: Design, deviation: float, correlation: float) -> Numbers:
    """Return the level of each row's day (n,)."""
    steps = random.normal(size=design.days)
    levels = np.empty(design.days)
    levels[0] = steps[0]
    for day in range(1, design.days):
        levels[day] = correlation * levels[day - 1] + np.sqrt(1 - correlation**2) * steps[day]
    return np.repeat(deviation * levels, design.rows_a_day)


def _share(logit: Numbers) -> Numbers:
    found: Numbers = 1 / (1 + np.exp(-logit))
    return found
