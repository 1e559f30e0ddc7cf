"""Differences between the rank correlations of two sets of rows, with bounds of their chance. Pure.

With n latest and N known rows, the difference d of a pair has the variance ``v = s^2 (1 / n + 1 / N)``, where
s^2 is the variance of the products. Products are bounded by b, and for such sums (Bernstein's inequality;
Boucheron, Lugosi and Massart, "Concentration Inequalities", 2013, theorem 2.10)

    E exp(l d) <= exp(l^2 v / (2 (1 - c l)))   with c = b (1 / n) / 3.

Where values are correlated within blocks, v and c grow by the design effect.
"""

import dataclasses
from collections.abc import Sequence
from typing import Self

import numpy as np
import numpy.typing as npt

from services.monitoring.rank_correlation import SCORE_MAX, Moments, Numbers, correlations
from streams.records import PairDrift, RelationDrift

VARIANCE_MARGIN = 4.0
"""Margin for the estimated variance of the products, in its standard errors."""
PAIRS_SHOWN_MAX = 10
"""Maximum pairs in a report, those with the smallest p-values."""
EFFECT_MIN = 0.1
"""Minimum difference of correlations that counts as drift of a window."""


@dataclasses.dataclass(frozen=True)
class Differences:
    """Differences of the rank correlations of two sets of rows; each array has shape ``(n_pairs,)``."""

    known: Numbers
    latest: Numbers
    spread: Numbers
    """Variance of the difference while nothing changes."""
    bound: Numbers
    """Maximum effect of one row on the difference, c in the module's docstring."""
    varying: npt.NDArray[np.bool_]
    """Whether both features of the pair vary among the known rows."""

    @classmethod
    def between(cls, known: Moments, latest: Moments, effects: Numbers) -> Self:
        """Compare two sets of rows, neither of them empty.

        The latest correlations are scaled by the larger of both standard deviations, so that a feature that
        now varies less does not make a correlation large.

        Args:
            known: The known rows.
            latest: The latest rows.
            effects: The design effects of the pairs, shape ``(n_pairs,)``.
        """
        pairs = np.triu_indices(len(known.sums), 1)
        before = _deviations(known)
        scale = (before[pairs[0]] * before[pairs[1]]) ** 2
        varying = scale > 0
        scale[~varying] = 1.0
        of_latest = correlations(latest.covariances(), np.maximum(before, _deviations(latest)))
        margin = 1 + VARIANCE_MARGIN / np.sqrt(known.rows)
        # Products may all be equal: so few rows do not prove that one in as many has not the largest.
        squares = np.maximum(known.product_variances()[pairs], SCORE_MAX**4 / known.rows)
        variance = squares / scale * margin
        return cls(
            correlations(known.covariances(), before)[pairs],
            of_latest[pairs],
            variance * effects * (1 / latest.rows + 1 / known.rows),
            SCORE_MAX**2 / np.sqrt(scale) * effects / latest.rows / 3,
            varying,
        )

    def p_values(self) -> Numbers:
        """Return an upper bound of each pair's p-value, by Bernstein's inequality; shape ``(n_pairs,)``."""
        size = np.abs(self.latest - self.known)
        exponent = np.divide(
            size**2, 2 * (self.spread + self.bound * size), out=np.zeros_like(size), where=self.varying
        )
        found: Numbers = np.minimum(2 * np.exp(-exponent), 1.0)
        return found


def pair_effects(design_effects: Numbers, measured: Sequence[float] = ()) -> Numbers:
    """Return the design effect of each pair, ``(n_pairs,)``.

    Args:
        design_effects: The design effects of the features, shape ``(n_features,)``.
        measured: Those of the products; without them, the geometric mean of both features' is taken.
    """
    if measured:
        found: Numbers = np.maximum(np.array(measured, dtype=np.float64), 1.0)
        return found
    first, second = np.triu_indices(len(design_effects), 1)
    effects = np.sqrt(np.maximum(design_effects, 1.0))
    means: Numbers = effects[first] * effects[second]
    return means


def relation(first: str, second: str) -> str:
    """Return the subject of an alarm about two features."""
    return f"{first} and {second}"


def compare(
    known: Moments,
    latest: Moments,
    design_effects: Numbers,
    names: Sequence[str],
    p_value: float,
    measured: Sequence[float] = (),
) -> RelationDrift | None:
    """Compare the correlations of a window with those of the reference; None without a pair.

    Args:
        known: The moments of the reference.
        latest: The moments of the window, with at least one row.
        design_effects: The design effects of the features, shape ``(n_features,)``.
        names: The names of the features.
        p_value: The significance level for all pairs together.
        measured: The design effects of the products, see `pair_effects`.
    """
    first, second = np.triu_indices(len(names), 1)
    if not len(first) or not known.rows:
        return None
    differences = Differences.between(known, latest, pair_effects(design_effects, measured))
    size, p_values = np.abs(differences.latest - differences.known), differences.p_values()
    strongest = np.lexsort((-size, p_values))[:PAIRS_SHOWN_MAX].tolist()
    return RelationDrift(
        distance=float(np.sqrt(np.mean(size**2))),
        p_value=min(1.0, float(p_values.min()) * len(first)),
        pairs=[
            PairDrift(
                first=names[first[pair]],
                second=names[second[pair]],
                correlation=float(differences.latest[pair]),
                reference_correlation=float(differences.known[pair]),
                p_value=float(p_values[pair]),
                drifted=bool(size[pair] >= EFFECT_MIN and p_values[pair] * len(first) < p_value),
            )
            for pair in strongest
        ],
    )


def _deviations(moments: Moments) -> Numbers:
    found: Numbers = np.sqrt(np.maximum(np.diagonal(moments.covariances()), 0.0))
    return found
