"""Simulated rollouts: how often an equal challenger is rolled back, and how soon a worse one is.

Requests are drawn as counts by cell of a distribution of losses, so 2,000 rollouts with a hundred looks each
take seconds. Whoever watches a rollout looks after each batch; the decision of a method is its first.
"""

import dataclasses

import numpy as np
import numpy.typing as npt

from services.rollout import arm_difference, error_odds, evidence, paired_blocks, sample_ratio
from services.rollout.arm_difference import KeySums

ALPHA = 0.05
ROLLOUTS = 2_000
LOOKS = 100
SHARES = (0.01, 0.05, 0.25)
GUARDRAILS = 3
"""Loss, errors and latency; and a test of the arms' shares, in each step."""
TESTS = (1 + len(SHARES)) * (GUARDRAILS + 1)
LIMIT = evidence.log_threshold(ALPHA, TESTS)
LATENCY_UNITS = 60
SLOW_SHARE = 0.05

Numbers = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Decisions = npt.NDArray[np.bool_]
"""``(n_rollouts, n_looks)``: whether a method would roll back at this look."""


@dataclasses.dataclass(frozen=True)
class World:
    """What requests are like; everything is drawn by look, for both arms alike."""

    losses: Numbers
    """The loss of each cell, as a share of the largest, ``(n_cells,)``."""
    calm: Numbers
    """Probability of each cell."""
    storm: Numbers
    """The same while a storm lasts."""
    storm_share: float = 0.0
    storm_looks: int = 10
    """Mean length of a storm."""
    errors: float = 0.01
    paired_spread: float = 0.1
    """Standard deviation of the difference of two equal models on one request."""
    paired_by_block: float = 0.0
    """Standard deviation of that difference's mean over a block: in one storm the one model is better, in
    another one the other."""


def log_losses(positives: float, sharpness: float) -> tuple[Numbers, Numbers]:
    """Return losses as shares of 4 nats and their probabilities, for calibrated scores of a beta law."""
    scores = (np.arange(32) + 0.5) / 32
    weights = scores ** (positives * sharpness - 1) * (1 - scores) ** ((1 - positives) * sharpness - 1)
    weights /= weights.sum()
    cells = np.concatenate([-np.log(scores), -np.log1p(-scores)])
    return np.minimum(cells / 4, 1.0), np.concatenate([weights * scores, weights * (1 - scores)])


def tilted(losses: Numbers, chances: Numbers, mean: float) -> Numbers:
    """Return the nearest probabilities with another mean loss."""
    low, high = -60.0, 60.0
    for _ in range(80):
        middle = (low + high) / 2
        found = chances * np.exp(middle * losses)
        found /= found.sum()
        low, high = (middle, high) if found @ losses < mean else (low, middle)
    return found


def storms(random: np.random.Generator, world: World, rollouts: int, looks: int) -> Decisions:
    """Return in which looks there is a storm."""
    if not world.storm_share:
        return np.zeros((rollouts, looks), dtype=bool)
    draws = random.random((rollouts, looks))
    found = np.zeros((rollouts, looks), dtype=bool)
    found[:, 0] = draws[:, 0] < world.storm_share
    ends = 1 / world.storm_looks
    begins = ends * world.storm_share / (1 - world.storm_share)
    for look in range(1, looks):
        found[:, look] = np.where(found[:, look - 1], draws[:, look] > ends, draws[:, look] < begins)
    return found


@dataclasses.dataclass(frozen=True)
class Canary:
    """One canary step of all rollouts: sums by look, ``(n_rollouts, n_looks)``."""

    share: float
    challenger: KeySums
    champion: KeySums
    errors: tuple[Numbers, Numbers]

    def worse_loss(self) -> Decisions:
        """Decide by the evidence of the losses."""
        return arm_difference.log_evidence(self.challenger, self.champion, self.share) >= LIMIT

    def more_errors(self) -> Decisions:
        """Decide by the evidence of the errors."""
        own, other = (np.cumsum(each, axis=1) for each in self.errors)
        return error_odds.log_evidence(own, other, self.share) >= LIMIT

    def mismatch(self) -> Decisions:
        """Decide by the numbers of keys."""
        own, other = (np.cumsum(each.keys, axis=1) for each in (self.challenger, self.champion))
        return sample_ratio.log_evidence(own, other, self.share) >= LIMIT

    def z_test(self) -> Decisions:
        """Decide by a one-sided z-test of each measure at each look, at alpha over the measures."""
        own = [np.cumsum(part, axis=1) for part in self.challenger]
        other = [np.cumsum(part, axis=1) for part in self.champion]
        counts = (np.maximum(own[0], 1), np.maximum(other[0], 1))
        rates = [np.cumsum(part, axis=1) / count for part, count in zip(self.errors, counts, strict=True)]
        pooled = (rates[0] * counts[0] + rates[1] * counts[1]) / (counts[0] + counts[1])
        error_deviation = np.sqrt(pooled * (1 - pooled) * (1 / counts[0] + 1 / counts[1]))
        means = [sums[1] / count for sums, count in zip((own, other), counts, strict=True)]
        spreads = [
            np.maximum(sums[2] / count - mean**2, 0.0) / count
            for sums, count, mean in zip((own, other), counts, means, strict=True)
        ]
        is_worse = means[0] - means[1] > Z_LIMIT * np.sqrt(spreads[0] + spreads[1])
        is_failing = rates[0] - rates[1] > Z_LIMIT * error_deviation
        enough = (own[0] >= 30) & (other[0] >= 30)
        found: Decisions = enough & (is_worse | (is_failing & (error_deviation > 0)))
        return found

    def threshold(self) -> Decisions:
        """Decide by the usual rule: 1.2 times the champion's rate, and 5 errors of its own or more."""
        own, other = (np.cumsum(each, axis=1) for each in self.errors)
        keys, other_keys = (np.cumsum(each.keys, axis=1) for each in (self.challenger, self.champion))
        return (own >= 5) & (own * other_keys > 1.2 * other * keys)


Z_LIMIT = 1.959963984540054
"""One-sided at alpha / 2: two measures."""


def canary(
    random: np.random.Generator,
    world: World,
    share: float,
    keys: int,
    *,
    rollouts: int = ROLLOUTS,
    looks: int = LOOKS,
    loss_added: float = 0.0,
    errors: float | None = None,
    lost: float = 0.0,
) -> Canary:
    """Draw a canary step.

    Args:
        random: Generator.
        world: What requests are like.
        share: The challenger's.
        keys: Keys per look, of both arms.
        rollouts: How many.
        looks: How many.
        loss_added: Mean loss of the challenger above the champion's.
        errors: The challenger's share of errors; by default the champion's.
        lost: Share of the challenger's requests that are lost.
    """
    stormy = storms(random, world, rollouts, looks)
    own_keys: Counts = random.binomial(keys, share, (rollouts, looks))
    other_keys = keys - own_keys
    if lost:
        own_keys = random.binomial(own_keys, 1 - lost)
    failed = np.where(stormy, 3 * world.errors, world.errors)
    own_failed = failed * (1.0 if errors is None else errors / world.errors)
    return Canary(
        share,
        _losses(random, world, stormy, own_keys, loss_added),
        _losses(random, world, stormy, other_keys, 0.0),
        (
            random.binomial(own_keys, np.minimum(own_failed, 1.0)).astype(np.float64),
            random.binomial(other_keys, failed).astype(np.float64),
        ),
    )


def _losses(
    random: np.random.Generator, world: World, stormy: Decisions, keys: Counts, added: float
) -> KeySums:
    laws = [
        tilted(world.losses, law, float(law @ world.losses) + added) if added else law
        for law in (world.calm, world.storm)
    ]
    counts = random.multinomial(keys, np.where(stormy[..., None], laws[1], laws[0]))
    return KeySums(keys.astype(np.float64), counts @ world.losses, counts @ world.losses**2)


def shadow(
    random: np.random.Generator,
    world: World,
    rows: int,
    *,
    rollouts: int = ROLLOUTS,
    blocks: int = LOOKS,
    added: float = 0.0,
) -> Decisions:
    """Draw a shadow step and decide by paired blocks."""
    means = random.normal(added, world.paired_by_block, (rollouts, blocks))
    sums = rows * means + np.sqrt(rows) * world.paired_spread * random.standard_normal((rollouts, blocks))
    return paired_blocks.log_evidence(np.full((rollouts, blocks), float(rows)), sums) >= LIMIT


def latency(random: np.random.Generator, *, rollouts: int = ROLLOUTS, factor: float = 1.0) -> Decisions:
    """Draw pairs of calls by unit of time: shares above the champion's quantile, with bursts for both."""
    units = LATENCY_UNITS
    bursts = random.gamma(0.5, 2.0, (rollouts, units))
    slow = [np.minimum(SLOW_SHARE * bursts * each, 1.0) for each in (factor, 1.0)]
    calls = 20
    drawn = [random.binomial(calls, each).astype(np.float64) for each in slow]
    rows = np.full((rollouts, units), float(calls))
    return paired_blocks.log_evidence(rows, drawn[0] - drawn[1]) >= LIMIT


def repeated_keys(
    random: np.random.Generator, share: float, *, rollouts: int, keys: int, requests: int
) -> tuple[Canary, Canary]:
    """Draw a canary step in which few keys make most requests, and a key's loss is always the same.

    Returns:
        The step with every request counted, and with each key counted at its first request.
    """
    weights = 1.0 / np.arange(1, keys + 1)
    of_request = random.choice(keys, (rollouts, LOOKS, requests), p=weights / weights.sum())
    losses = random.beta(0.5, 2.0, (rollouts, keys))
    is_own = random.random((rollouts, keys)) < share
    every: list[Numbers] = []
    once: list[Numbers] = []
    for rollout in range(rollouts):
        order = of_request[rollout].ravel()
        look = np.repeat(np.arange(LOOKS), requests)
        first = np.sort(np.unique(order, return_index=True)[1])
        for found, taken in ((every, np.arange(len(order))), (once, first)):
            key = order[taken]
            found.append(_sums_by_look(losses[rollout, key], is_own[rollout, key], look[taken]))
    steps = [np.stack(each) for each in (every, once)]
    return _step_of(share, steps[0]), _step_of(share, steps[1])


def _sums_by_look(losses: Numbers, is_own: Decisions, look: Counts) -> Numbers:
    """Return keys, totals, squares and errors of both arms by look, ``(8, n_looks)``."""
    columns = [np.ones_like(losses), losses, losses**2, (losses > 0.5).astype(np.float64)]
    sums = [
        np.bincount(look, weights=column * arm, minlength=LOOKS)
        for arm in (is_own, ~is_own)
        for column in columns
    ]
    return np.stack(sums)


def _step_of(share: float, sums: Numbers) -> Canary:
    own, other = sums[:, :4], sums[:, 4:]
    arms = [KeySums(each[:, 0], each[:, 1], each[:, 2]) for each in (own, other)]
    return Canary(share, arms[0], arms[1], (own[:, 3], other[:, 3]))


def ever(*decisions: Decisions) -> npt.NDArray[np.bool_]:
    """Return which rollouts end with a rollback, ``(n_rollouts,)``."""
    found: npt.NDArray[np.bool_] = np.any(np.concatenate(decisions, axis=1), axis=1)
    return found


def delay(decisions: Decisions, counts: Numbers) -> Numbers:
    """Return a running count at the first decision of each rollout, ``(n_rollouts,)``; nan without one."""
    first = np.argmax(decisions, axis=1)
    found: Numbers = counts[np.arange(len(counts)), first].astype(np.float64)
    found[~decisions.any(axis=1)] = np.nan
    return found
