import dataclasses

import numpy as np
import pytest

from services.retraining.gates import GateResult, HeldOut, segments
from services.runtime.declaration import SegmentGate
from tests.unit.retraining.gates.held_out_rows import declaration, evidence, gates_of, held_out


def worse_in(colour: str) -> HeldOut:
    """Return rows whose candidate is better than the champion, but not in one segment."""
    rows, bad = held_out(noise=0.0, champion_noise=0.8), held_out(noise=2.5, champion_noise=0.8)
    outputs = np.where(rows.columns["shop"] == colour, bad.outputs, rows.outputs)
    return dataclasses.replace(rows, outputs=outputs)


def check(rows: HeldOut, **gate: float) -> list[GateResult]:
    declared = declaration(segments=("shop",))
    gates = gates_of(declared).model_copy(update={"segments": SegmentGate(**gate)})
    return segments.check(declared, gates, evidence(rows))


def test_segment_that_is_surely_worse_fails():
    (found,) = check(worse_in("green"), tolerance=0.02)

    assert found.outcome == "failed"
    assert "shop=green by 0." in found.text
    assert "shop=red" not in found.text
    assert found.numbers["p_value shop=green"] < 0.05 < found.numbers["p_value shop=blue"]


def test_equal_candidate_passes_in_all_segments():
    (found,) = check(held_out(noise=0.1, champion_noise=0.1))

    assert found.outcome == "passed"


def test_small_segments_are_not_compared():
    (found,) = check(worse_in("green"), minimum_rows=10_000)

    assert found.outcome == "not_enough_data"


def test_nothing_is_told_without_a_champion_or_a_declaration():
    declared = declaration()

    assert check(held_out(champion_noise=None)) == []
    assert segments.check(declared, gates_of(declared), evidence()) == []


def test_holm_is_stricter_for_the_smallest_p_value_and_never_falls():
    assert segments.holm({"a": 0.04, "b": 0.01, "c": 0.03}) == pytest.approx(
        {"b": 0.03, "c": 0.06, "a": 0.06}
    )
    assert segments.holm({"a": 0.9, "b": 0.8}) == {"b": 1.0, "a": 1.0}


def test_only_the_most_frequent_values_are_segments():
    shops = np.array([f"shop{number % 30}" for number in range(2800)], dtype=object)
    rows = dataclasses.replace(held_out(), columns={"shop": shops})

    assert len(list(segments.segments_of(rows, ("shop", "absent")))) == 10
