"""Streams for the comparison of drift detectors: calm, in blocks that are alike, shifted in known ways."""

import functools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from services.drift.edetector import EDetector
from services.drift.ranks import Ranking
from services.retraining import blocks, reference

Ranks = npt.NDArray[np.float64]
Sample = npt.NDArray[np.float64]
KNOWN_ROWS = 10_000
BLOCK_ROWS = 64
BLOCK_SHARE = 0.3
"""Of the variance: how alike the values of a block are."""


class Monitor:
    """What the drift process does with each row: cells, ranks, bets."""

    def __init__(self, known: Sample, *, learn: bool = True) -> None:
        made = [reference.of_numbers("x", column) for column in known.T]
        self._edges = [np.array(one.edges) for one in made]
        cells = max(len(one.counts) for one in made)
        counts = np.zeros((len(made), 1, cells), dtype=np.int64)
        for feature, one in enumerate(made):
            counts[feature, 0, : len(one.counts)] = one.counts
        self._ranking = Ranking(counts)
        self._detector = EDetector(len(made), 1e15)
        self._chance = np.random.default_rng(3)
        self._learn = learn

    def update(self, values: Sample, first_row: int) -> None:
        """Take rows ``(n_rows, n_features)``."""
        self._detector.update(self.ranks(values), np.arange(first_row, first_row + len(values)))

    def ranks(self, values: Sample) -> Ranks:
        """Rank them; if nothing is learnt, the reference is taken for the truth."""
        cells = np.stack(
            [np.searchsorted(e, v, side="right") for e, v in zip(self._edges, values.T, strict=True)], axis=1
        )
        chances = self._chance.random(len(values))
        if self._learn:
            return self._ranking.rank(cells, chances)
        known = self._ranking.known[:, 0]
        upto = np.cumsum(known, axis=1) / known.sum(axis=1, keepdims=True)
        features = np.arange(len(known))
        here = known[features, cells] / known.sum(axis=1)
        ranks: Ranks = np.clip(upto[features, cells] - here * chances[:, None], 1e-6, 1 - 1e-6)
        return ranks

    @property
    def state_bytes(self) -> int:
        """What a restart needs."""
        return len(self._detector.state()) + self._ranking.known.nbytes


def uniform_ranks(streams: int, rows: int, seed: int) -> Ranks:
    """Return ranks of values that never change."""
    return np.random.default_rng(seed).random((rows, streams))


def calm_ranks(streams: int, known: int, rows: int, seed: int, *, learn: bool = True) -> Ranks:
    """Return ranks against finite references of the same distribution, each stream with its own."""
    random = np.random.default_rng(seed)
    monitor = Monitor(random.normal(size=(known, streams)), learn=learn)
    return monitor.ranks(random.normal(size=(rows, streams)))


def blocked_ranks(features: int, blocks_known: int, rows: int, seed: int) -> tuple[Ranks, Sample]:
    """Return ranks of values that are alike within blocks, and the reference's design effects."""
    random = np.random.default_rng(seed)
    known = _blocked(random, blocks_known * BLOCK_ROWS, features)
    times = np.arange(len(known))
    effects = [blocks.design_effect(blocks.middle_ranks(column), times, BLOCK_ROWS) for column in known.T]
    return Monitor(known).ranks(_blocked(random, rows, features)), np.array(effects)


def _blocked(random: np.random.Generator, rows: int, features: int) -> Sample:
    levels = random.normal(size=(rows // BLOCK_ROWS + 1, features)).repeat(BLOCK_ROWS, axis=0)[:rows]
    own = random.normal(size=(rows, features))
    values: Sample = np.sqrt(BLOCK_SHARE) * levels + np.sqrt(1 - BLOCK_SHARE) * own
    return values


def _shifted(
    change: Callable[[np.random.Generator, Sample], Sample], calm: int, rows: int, seed: int
) -> Ranks:
    random = np.random.default_rng(seed)
    values = random.normal(size=calm + rows)
    values[calm:] = change(random, values[calm:])
    return Monitor(random.normal(size=(KNOWN_ROWS, 1))).ranks(values[:, None])[:, 0]


def _categories(calm: int, rows: int, seed: int) -> Ranks:
    """One of ten equal categories doubles its share at the cost of the others; which are ranked by name."""
    random = np.random.default_rng(seed)
    after = np.full(10, 0.8 / 9)
    after[4] = 0.2
    cells = np.concatenate([random.choice(10, calm), random.choice(10, rows, p=after)])
    known = np.bincount(random.choice(10, KNOWN_ROWS), minlength=10)[None, None, :]
    return Ranking(known).rank(cells[:, None], random.random(len(cells)))[:, 0]


SHIFTS: dict[str, Callable[[int, int, int], Ranks]] = {
    "mean by 0.25 sd": functools.partial(_shifted, lambda _, x: x + 0.25),
    "mean by 0.5 sd": functools.partial(_shifted, lambda _, x: x + 0.5),
    "mean by 1 sd": functools.partial(_shifted, lambda _, x: x + 1),
    "spread by half": functools.partial(_shifted, lambda _, x: x * 1.5),
    "one of ten categories doubles": _categories,
    "one row in ten by 2 sd": functools.partial(
        _shifted, lambda random, x: x + 2 * (random.random(len(x)) < 0.1)
    ),
}
"""By name: from a number of calm and of shifted rows and a seed, the ranks of all."""
