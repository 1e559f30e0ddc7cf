"""Streams for the comparison of drift detectors: unchanged, correlated within blocks, or changed."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import signal

from services.drift.binning.bin_counts import FeatureBinner
from services.drift.detectors.e_detector import EDetector
from services.drift.detectors.ranks import Ranking
from services.drift.detectors.relation_detector import PairDetector
from services.monitoring import design_effect, reference
from services.monitoring.rank_correlation import Moments, RankScorer, Scores

Ranks = npt.NDArray[np.float64]
Sample = npt.NDArray[np.float64]
Column = npt.NDArray[Any]
KNOWN_ROWS = 10_000
BLOCK_ROWS = 64
AUTOREGRESSION = 0.9
BLOCK_SHARE = 0.3
"""Share of the variance that the values of a block have in common."""


class Monitor:
    """Processes rows as the drift process does: bins, ranks, bets."""

    def __init__(self, known: Sample, *, learn: bool = True) -> None:
        references = [reference.of_numbers("x", column) for column in known.T]
        self._edges = [np.array(one.edges) for one in references]
        bins = max(len(one.counts) for one in references)
        counts = np.zeros((len(references), 1, bins), dtype=np.int64)
        for feature, one in enumerate(references):
            counts[feature, 0, : len(one.counts)] = one.counts
        self._ranking = Ranking(counts)
        self._detector = EDetector(len(references), 1e15)
        self._random = np.random.default_rng(3)
        self._learn = learn

    def update(self, values: Sample, first_row: int) -> None:
        """Process rows ``(n_rows, n_features)``."""
        self._detector.update(self.ranks(values), np.arange(first_row, first_row + len(values)))

    def ranks(self, values: Sample) -> Ranks:
        """Return the ranks of rows; without learning, the reference is treated as exact."""
        bins = np.stack(
            [np.searchsorted(e, v, side="right") for e, v in zip(self._edges, values.T, strict=True)], axis=1
        )
        tie_breakers = self._random.random(len(values))
        if self._learn:
            return self._ranking.rank(bins, tie_breakers)
        known = np.concatenate(self._ranking.known)
        cumulated = np.cumsum(known, axis=1) / known.sum(axis=1, keepdims=True)
        features = np.arange(len(known))
        share = known[features, bins] / known.sum(axis=1)
        ranks: Ranks = np.clip(cumulated[features, bins] - share * tie_breakers[:, None], 1e-6, 1 - 1e-6)
        return ranks

    @property
    def state_bytes(self) -> int:
        """Size of the state that a restart needs."""
        return len(self._detector.state()) + sum(each.nbytes for each in self._ranking.known)


def uniform_ranks(streams: int, rows: int, seed: int) -> Ranks:
    """Return the ranks of an unchanged stream against an exact reference."""
    return np.random.default_rng(seed).random((rows, streams))


def calm_ranks(streams: int, known: int, rows: int, seed: int, *, learn: bool = True) -> Ranks:
    """Return the ranks of unchanged streams, each against a finite reference of its distribution."""
    random = np.random.default_rng(seed)
    monitor = Monitor(random.normal(size=(known, streams)), learn=learn)
    return monitor.ranks(random.normal(size=(rows, streams)))


def blocked_ranks(features: int, blocks_known: int, rows: int, seed: int) -> tuple[Ranks, Sample]:
    """Return the ranks of values correlated within blocks, and the design effects of the reference."""
    random = np.random.default_rng(seed)
    known = _blocked(random, blocks_known * BLOCK_ROWS, features)
    divided = design_effect.Blocks(np.arange(len(known)), BLOCK_ROWS)
    effects = [divided.design_effect(design_effect.middle_ranks(column)) for column in known.T]
    return Monitor(known).ranks(_blocked(random, rows, features)), np.array(effects)


def _blocked(random: np.random.Generator, rows: int, features: int) -> Sample:
    levels = random.normal(size=(rows // BLOCK_ROWS + 1, features)).repeat(BLOCK_ROWS, axis=0)[:rows]
    noise = random.normal(size=(rows, features))
    values: Sample = np.sqrt(BLOCK_SHARE) * levels + np.sqrt(1 - BLOCK_SHARE) * noise
    return values


def correlated_ranks(features: int, rows: int, seed: int, *, alike: bool) -> tuple[Ranks, Sample]:
    """Return the ranks of an autoregression and its design effects, or 1 if ``alike`` is false."""
    random = np.random.default_rng(seed)
    blocks_known = 40
    known = _autoregression(random, blocks_known * BLOCK_ROWS, features)
    values = _autoregression(random, rows, features)
    divided = design_effect.Blocks(np.arange(len(known)), BLOCK_ROWS)
    effects = [divided.design_effect(design_effect.middle_ranks(column)) for column in known.T]
    return Monitor(known).ranks(values), np.array(effects) if alike else np.ones(features)


def _autoregression(random: np.random.Generator, rows: int, features: int) -> Sample:
    noise = random.normal(size=(rows + BLOCK_ROWS, features)) * np.sqrt(1 - AUTOREGRESSION**2)
    values: Sample = signal.lfilter([1.0], [1.0, -AUTOREGRESSION], noise, axis=0)[BLOCK_ROWS:]
    return values


def related(rows: int, features: int, correlation: float, random: np.random.Generator) -> Sample:
    """Return normal values whose first two features are correlated."""
    values: Sample = random.normal(size=(rows, features))
    values[:, 1] = correlation * values[:, 0] + np.sqrt(1 - correlation**2) * values[:, 1]
    return values


def pair_detector(known: Sample, threshold_rows: float) -> tuple[PairDetector, Callable[[Sample], Scores]]:
    """Return a pair detector, and the function that computes the rank scores of values."""
    references = [reference.of_numbers(f"f{number}", column) for number, column in enumerate(known.T)]
    binners, scorers = [FeatureBinner(one) for one in references], [RankScorer(one) for one in references]
    divided = design_effect.Blocks(np.arange(len(known)), BLOCK_ROWS)
    effects = np.array([divided.design_effect(design_effect.middle_ranks(column)) for column in known.T])

    def scores_of(values: Sample) -> Scores:
        times_ms = np.zeros(len(values), dtype=np.int64)
        columns = zip(scorers, binners, values.T, strict=True)
        return np.stack(
            [scorer.scores(binner.bins(column), times_ms) for scorer, binner, column in columns], axis=1
        )

    moments = Moments.none(known.shape[1])
    moments.add(scores_of(known))
    return PairDetector(moments, threshold_rows, effects), scores_of


@dataclasses.dataclass(frozen=True)
class Stream:
    """A reference, and values that change after a number of rows."""

    known: Column
    seen: Column
    """Numbers, or indices of categories."""

    @property
    def ranks(self) -> Ranks:
        """The ranks that the drift process computes."""
        if self.known.dtype == np.float64:
            return Monitor(self.known[:, None]).ranks(self.seen[:, None])[:, 0]
        counts = np.bincount(self.known, minlength=10)[None, None, :]
        return Ranking(counts).rank(self.seen[:, None], np.random.default_rng(3).random(len(self.seen)))[:, 0]


def _shifted(
    change: Callable[[np.random.Generator, Sample], Sample], calm: int, rows: int, seed: int
) -> Stream:
    random = np.random.default_rng(seed)
    values = random.normal(size=calm + rows)
    values[calm:] = change(random, values[calm:])
    return Stream(random.normal(size=KNOWN_ROWS), values)


def _categories(calm: int, rows: int, seed: int, share: float = 0.2) -> Stream:
    """Return a stream in which one of ten equally frequent categories doubles its share."""
    random = np.random.default_rng(seed)
    after = np.full(10, (1 - share) / 9)
    after[4] = share
    values = np.concatenate([random.choice(10, calm), random.choice(10, rows, p=after)])
    return Stream(random.choice(10, KNOWN_ROWS), values)


CALM: dict[str, Callable[[int, int, int], Stream]] = {
    "numbers": functools.partial(_shifted, lambda _, x: x),
    "categories": functools.partial(_categories, share=0.1),
}
"""Unchanged streams by kind, created like those of `SHIFTS`."""
CATEGORIES = "one of ten categories doubles"
SHIFTS: dict[str, Callable[[int, int, int], Stream]] = {
    "mean by 0.25 sd": functools.partial(_shifted, lambda _, x: x + 0.25),
    "mean by 0.5 sd": functools.partial(_shifted, lambda _, x: x + 0.5),
    "mean by 1 sd": functools.partial(_shifted, lambda _, x: x + 1),
    "spread by half": functools.partial(_shifted, lambda _, x: x * 1.5),
    CATEGORIES: _categories,
    "one row in ten by 2 sd": functools.partial(
        _shifted, lambda random, x: x + 2 * (random.random(len(x)) < 0.1)
    ),
}
"""Changed streams by name, created from a number of unchanged rows, of changed rows, and a seed."""
