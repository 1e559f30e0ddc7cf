"""Rollouts: false rollbacks of equal challengers, and the delay until worse ones are rolled back.

``make bench ONLY=rollout`` prints both tables beside the methods of usual tools, a z-test at each look and a
threshold, which see the same simulated requests. `bench.rollout_core` draws them. `bench.gates` adds how
often an equal candidate is called better.
"""

import os
from collections.abc import Callable, Mapping

import numpy as np

from bench import gates, report
from bench.report import Figures
from bench.rollout_core import (
    ALPHA,
    LIMIT,
    LOOKS,
    ROLLOUTS,
    SHARES,
    TESTS,
    Canary,
    Decisions,
    Numbers,
    World,
    canary,
    delay,
    ever,
    latency,
    log_losses,
    repeated_keys,
    shadow,
    tilted,
)
from services.rollout import error_odds, paired_blocks

KEYS = 2_000
"""Keys per look."""
ERRORS_MAX = 10
"""A challenger that fails on a fifth of its requests is rolled back before this many own errors, in 99 of
100 rollouts."""
Measured = tuple[Mapping[str, Mapping[str, Figures]], Mapping[str, float]]
"""Figures by measure and contender, and ratios."""

_LOSSES, _CALM = log_losses(0.25, 4)
_RARE_LOSSES, _RARE = log_losses(0.01, 2)
WORLDS = {
    "independent requests": World(_LOSSES, _CALM, _CALM),
    "storms of ten looks": World(
        _LOSSES, _CALM, tilted(_LOSSES, _CALM, 2 * float(_CALM @ _LOSSES)), 0.2, paired_by_block=0.05
    ),
    "one positive in a hundred": World(_RARE_LOSSES, _RARE, _RARE, errors=0.001),
}


def main() -> None:
    """Measure and report."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    measures: dict[str, Mapping[str, Figures]] = {}
    ratios: dict[str, float] = {}
    for part in (rollouts, delays, gates.equal):
        found, own = part()
        measures |= found
        ratios |= own
    notes = f"{ROLLOUTS:,} simulated rollouts, alpha {ALPHA} over {TESTS} tests, {LOOKS} looks a step"
    report.write_measures("rollout", measures, ratios, notes)


def rollouts() -> Measured:
    """Return how often equal challengers are rolled back."""
    random = np.random.default_rng(14)
    found = {f"false rollbacks: {name}": _equal(random, world) for name, world in WORLDS.items()}
    found["false rollbacks: 500 keys make most requests"] = _equal_keys(random)
    worst = max(each["driftline"]["share"] for each in found.values())
    return found, {"false_rollbacks_of_alpha": worst / ALPHA}


def _equal(random: np.random.Generator, world: World) -> dict[str, Figures]:
    steps = [canary(random, world, share, KEYS) for share in SHARES]
    own = [shadow(random, world, 200), *(latency(random) for _ in range(1 + len(SHARES)))]
    for step in steps:
        own += [step.worse_loss(), step.more_errors(), step.mismatch()]
    return {
        "driftline": {"share": float(ever(*own).mean())},
        "z-test at each look": {"share": float(ever(*(step.z_test() for step in steps)).mean())},
        "1.2 times, 5 errors": {"share": float(ever(*(step.threshold() for step in steps)).mean())},
    }


def _equal_keys(random: np.random.Generator) -> dict[str, Figures]:
    steps = [repeated_keys(random, share, rollouts=400, keys=500, requests=200) for share in SHARES[1:]]

    def share_of(decide: Callable[[Canary], tuple[Decisions, ...]], number: int) -> float:
        return float(ever(*(each for step in steps for each in decide(step[number]))).mean())

    def evidence(step: Canary) -> tuple[Decisions, ...]:
        return step.worse_loss(), step.more_errors(), step.mismatch()

    return {
        "driftline": {"share": share_of(evidence, 1)},
        "the same, every request counted": {"share": share_of(evidence, 0)},
        "z-test at each look": {"share": share_of(lambda step: (step.z_test(),), 0)},
        "1.2 times, 5 errors": {"share": share_of(lambda step: (step.threshold(),), 0)},
    }


def delays() -> Measured:
    """Return how soon worse challengers are rolled back."""
    random = np.random.default_rng(15)
    calm = WORLDS["independent requests"]
    found: dict[str, Mapping[str, Figures]] = {}
    for rate in (0.02, 0.08, 0.2):
        found[f"errors 1.3 times {rate:.0%}, half of the keys"] = _more_errors(random, rate)
        found[f"the same, as a shadow ({rate:.0%})"] = {"driftline": _shadow_errors(random, rate)}
    for share, added in ((0.05, 0.1), (0.25, 0.05)):
        step = canary(random, calm, share, KEYS, rollouts=400, loss_added=added / 4)
        found[f"log loss higher by {added}, {share:.0%} of the keys"] = {
            "driftline": _requests(step.worse_loss(), step),
            "z-test at each look": _requests(step.z_test(), step),
        }
    failing = canary(random, calm, 0.01, 100, rollouts=ROLLOUTS, looks=400, errors=0.2)
    own_errors = np.cumsum(failing.errors[0], axis=1)
    found["fails on 20% of the requests, 1% of the keys"] = {
        "driftline": _errors(failing.more_errors(), own_errors),
        "z-test at each look": _errors(failing.z_test(), own_errors),
        "1.2 times, 5 errors": _errors(failing.threshold(), own_errors),
    }
    lossy = canary(random, calm, 0.05, KEYS, rollouts=400, lost=0.1)
    found["loses 10% of its requests, 5% of the keys"] = {"driftline": _requests(lossy.mismatch(), lossy)}
    units = np.broadcast_to(np.arange(1.0, 61.0), (ROLLOUTS, 60))
    slow = delay(latency(random, factor=3.0), units)
    found["exceeds the 95th percentile 3 times as often"] = {"driftline": _figures(slow, "units")}
    worst = found["fails on 20% of the requests, 1% of the keys"]["driftline"]["errors_p99"]
    return found, {"errors_before_rollback_of_stated": worst / ERRORS_MAX}


def _more_errors(random: np.random.Generator, rate: float) -> dict[str, Figures]:
    world = World(_LOSSES, _CALM, _CALM, errors=rate)
    keys = round(8 / rate)
    step = canary(random, world, 0.5, keys, rollouts=400, looks=400, errors=1.3 * rate)
    own, other = (np.cumsum(each, axis=1) for each in step.errors)
    alone = error_odds.log_evidence(own, other, 0.5) >= np.log(1 / ALPHA)
    return {
        "driftline": _requests(step.more_errors(), step),
        "the same, one test": _requests(alone, step),
        "z-test at each look": _requests(step.z_test(), step),
        "1.2 times, 5 errors": _requests(step.threshold(), step),
    }


def _shadow_errors(random: np.random.Generator, rate: float) -> Figures:
    """A shadow with 1.3 times the errors; seven of ten errors are those of the champion, too."""
    rows, blocks = max(30, round(0.5 / rate)), 400
    only_own, only_other = 0.6 * rate, 0.3 * rate
    drawn = [random.binomial(rows, chance, (400, blocks)) for chance in (only_own, only_other)]
    counts = np.full((400, blocks), float(rows))
    decisions = paired_blocks.log_evidence(counts, (drawn[0] - drawn[1]).astype(np.float64)) >= LIMIT
    return _figures(delay(decisions, np.cumsum(counts, axis=1)), "requests")


def _requests(decisions: Decisions, step: Canary) -> Figures:
    return _figures(delay(decisions, np.cumsum(step.challenger.keys, axis=1)), "own_requests")


def _errors(decisions: Decisions, own_errors: Numbers) -> Figures:
    found = delay(decisions, own_errors)
    return {**_figures(found, "errors"), "errors_p99": float(np.nanquantile(found, 0.99))}


def _figures(found: Numbers, unit: str) -> Figures:
    has_ended = ~np.isnan(found)
    median = float(np.nanmedian(found)) if has_ended.any() else float("nan")
    return {"rolled_back": float(has_ended.mean()), f"median_{unit}": median}
