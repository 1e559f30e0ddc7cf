import pytest

from services.rollout.call_pairs import CALLS_MIN, LATE_MS, UNIT_MS, CallPairs
from services.rollout.evidence import log_threshold


def learned(limit_us: int = 1000) -> CallPairs:
    """Return pairs that know the champion's calls."""
    pairs = CallPairs()
    for call in range(CALLS_MIN):
        pairs.add("0/champion", call, limit_us - 500 + call, is_own=False)
    pairs.close(0.1)
    return pairs


def play(pairs: CallPairs, own_us: int, other_us: int, units: int) -> None:
    for unit in range(units):
        for call in range(10):
            at_ms = (100 + unit) * UNIT_MS + 100 * call
            pairs.add("0/challenger", at_ms, own_us + call, is_own=True)
            pairs.add("0/champion", at_ms, other_us + call, is_own=False)
    pairs.add("0/champion", (100 + units) * UNIT_MS + LATE_MS, other_us, is_own=False)
    pairs.close(0.1)


def test_quantile_is_that_of_the_champion_and_stays() -> None:
    pairs = learned()
    limit_us = pairs.limit_us
    assert 500 < limit_us < 1100
    play(pairs, 9000, 9000, 30)
    assert pairs.limit_us == limit_us


def test_slow_version_is_found() -> None:
    pairs = learned()
    play(pairs, 9000, 100, 30)
    assert pairs.units == 30
    assert pairs.difference / pairs.units == pytest.approx(1.0)
    assert pairs.worse.log_evidence > log_threshold(0.05, 16)


def test_version_that_is_as_fast_is_within_the_margin() -> None:
    pairs = learned()
    play(pairs, 100, 100, 40)
    assert pairs.within.log_evidence > log_threshold(0.05)
    assert pairs.worse.log_evidence == 0


def test_rows_of_one_call_count_once() -> None:
    pairs = learned()
    for _ in range(500):
        pairs.add("0/challenger", 100 * UNIT_MS, 9000, is_own=True)
    assert pairs.open == {100: [1, 1, 0, 0]}


def test_unit_with_calls_of_one_version_is_carried_to_the_next_one() -> None:
    pairs = learned()
    pairs.add("0/challenger", 100 * UNIT_MS, 9000, is_own=True)
    pairs.add("0/champion", 105 * UNIT_MS, 100, is_own=False)
    pairs.add("0/champion", 101 * UNIT_MS + LATE_MS, 100, is_own=False)
    pairs.close(0.1)
    assert (pairs.units, pairs.carried) == (0, [1, 1, 0, 0])
    pairs.add("0/champion", 106 * UNIT_MS + LATE_MS, 100, is_own=False)
    pairs.close(0.1)
    assert (pairs.units, pairs.carried) == (1, [0, 0, 0, 0])
    assert pairs.difference == 1.0


def test_call_that_comes_very_late_is_left_out() -> None:
    pairs = learned()
    pairs.add("0/champion", 100 * UNIT_MS, 100, is_own=False)
    pairs.add("1/challenger", 100 * UNIT_MS - LATE_MS, 100, is_own=True)
    assert list(pairs.open) == [100]
