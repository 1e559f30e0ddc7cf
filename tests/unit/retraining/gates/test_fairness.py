import builtins
import dataclasses

import numpy as np
import pytest

from services.retraining.errors import RetrainingError
from services.retraining.gates import GateResult, HeldOut, fairness
from tests.unit.retraining.gates.held_out_rows import declaration, evidence, gates_of, held_out


def check(rows: HeldOut, **gate) -> dict[str, GateResult]:
    declared = declaration(fairness={"groups": ["shop"], **gate})
    return {each.name: each for each in fairness.check(declared, gates_of(declared), evidence(rows))}


def unfair() -> HeldOut:
    """Return rows whose scores are lowered for one group."""
    rows = held_out()
    lowered = np.where(rows.columns["shop"] == "red", 0.5 * rows.outputs, rows.outputs)
    return dataclasses.replace(rows, outputs=lowered)


def test_groups_that_are_treated_alike_pass():
    found = check(held_out(), equal_opportunity_max=0.25, demographic_parity_max=0.25)

    assert {name: each.outcome for name, each in found.items()} == {
        "fairness shop equal_opportunity": "passed",
        "fairness shop demographic_parity": "passed",
    }


def test_group_with_lowered_scores_fails_both_criteria():
    found = check(unfair())

    assert [each.outcome for each in found.values()] == ["failed", "failed"]
    told = found["fairness shop demographic_parity"]
    assert "0.000 for red" in told.text
    assert told.numbers["low"] > 0.1


def test_difference_near_the_maximum_is_not_enough_data():
    rows = held_out()
    difference = check(rows)["fairness shop equal_opportunity"].numbers["difference"]
    found = check(rows, equal_opportunity_max=difference + 0.001, demographic_parity_max=None)

    assert [each.outcome for each in found.values()] == ["not_enough_data"]


def test_small_groups_are_left_out_and_named():
    rows = unfair()
    shops = np.where(rows.columns["shop"] == "red", "red", rows.columns["shop"].astype(str))
    shops[rows.columns["shop"] == "red"] = np.where(np.arange((shops == "red").sum()) < 50, "red", "blue")
    found = check(dataclasses.replace(rows, columns={"shop": shops.astype(object)}), minimum_rows=60)

    assert all("1 smaller groups are left out" in each.text for each in found.values())


def test_one_large_group_is_not_enough():
    found = check(held_out(), minimum_rows=10_000)

    assert {each.outcome for each in found.values()} == {"not_enough_data"}


def test_feature_that_is_not_there_fails():
    found = check(dataclasses.replace(held_out(), columns={}))

    assert found["fairness shop"].outcome == "failed"


def test_missing_package_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch):
    original = builtins.__import__

    def without(name, *arguments, **named):
        if name.startswith("fairlearn"):
            raise ImportError(name)
        return original(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(RetrainingError, match=r"pip install 'driftline\[training\]'"):
        check(held_out())


def test_nothing_is_told_without_a_declaration():
    declared = declaration()

    assert fairness.check(declared, gates_of(declared), evidence()) == []
