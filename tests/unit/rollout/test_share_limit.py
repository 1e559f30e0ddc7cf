import itertools

import numpy as np
import pytest

from services.rollout import share_limit


def outcomes(chance: float) -> tuple[np.ndarray, np.ndarray]:
    """Return all outcomes of eight units that are wholly or not at all affected, with their chances."""
    units = np.array(list(itertools.product([0.0, 1.0], repeat=8)))
    return units, np.where(units == 1, chance, 1 - chance).prod(axis=1)


def test_wins_nothing_on_average_at_the_limit() -> None:
    units, chances = outcomes(0.2)
    assert chances @ np.exp(share_limit.log_evidence(units, 0.2)) == pytest.approx(np.ones(8))
    assert chances @ np.exp(share_limit.log_evidence_below(units, 0.2)) == pytest.approx(np.ones(8))


def test_loses_on_average_on_the_right_side_of_the_limit() -> None:
    units, chances = outcomes(0.1)
    assert (chances @ np.exp(share_limit.log_evidence(units, 0.2)) < 1).all()
    units, chances = outcomes(0.3)
    assert (chances @ np.exp(share_limit.log_evidence_below(units, 0.2)) < 1).all()


def test_units_without_any_show_that_the_share_is_below() -> None:
    assert share_limit.log_evidence_below(np.zeros(1000), 0.01)[-1] > np.log(1000)
