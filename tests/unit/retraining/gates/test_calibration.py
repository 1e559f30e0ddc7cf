import dataclasses

import numpy as np

from services.retraining.gates import GateResult, HeldOut, calibration
from tests.unit.retraining.gates.held_out_rows import COUNT, declaration, evidence, gates_of, held_out


def check(rows: HeldOut, **gates) -> list[GateResult]:
    declared = declaration(calibration={"error_max": 0.05}, **gates)
    return calibration.check(declared, gates_of(declared), evidence(rows))


def test_calibrated_scores_pass():
    (found,) = check(held_out())

    assert found.outcome == "passed"
    assert 0 < found.numbers["chance"] < 0.05


def test_scores_that_are_too_certain_fail():
    rows = held_out()
    logit = np.log(rows.outputs / (1 - rows.outputs))
    (found,) = check(dataclasses.replace(rows, outputs=1 / (1 + np.exp(-4 * logit))))

    assert found.outcome == "failed"


def test_error_that_chance_may_have_given_is_not_enough_data():
    rows = held_out().taken(np.arange(0, COUNT, 20))
    (found,) = check(rows)

    assert found.outcome == "not_enough_data"


def test_few_rows_or_days_are_not_enough():
    assert check(held_out(), minimum_rows=10_000)[0].outcome == "not_enough_data"
    assert check(held_out(), block_hours=24 * 14)[0].outcome == "not_enough_data"


def test_nothing_is_told_without_a_declaration():
    declared = declaration()

    assert calibration.check(declared, gates_of(declared), evidence()) == []
