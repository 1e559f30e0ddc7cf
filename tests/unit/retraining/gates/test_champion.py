import dataclasses

import numpy as np
import pytest

from services.retraining.gates import GateResult, HeldOut, champion
from tests.unit.retraining.gates.held_out_rows import declaration, evidence, gates_of, held_out


def compared(rows: HeldOut, **gates) -> GateResult:
    declared = declaration(**gates)
    (found,) = champion.check(declared, gates_of(declared), evidence(rows))
    return found


def test_candidate_that_is_surely_better_passes():
    found = compared(held_out(noise=0.0, champion_noise=1.0))

    assert found.outcome == "passed"
    assert "lower than the champion's" in found.text
    assert found.numbers["high"] < 0
    assert found.numbers["blocks"] == 14


def test_candidate_that_is_surely_worse_fails():
    found = compared(held_out(noise=1.0, champion_noise=0.0))

    assert found.outcome == "failed"
    assert found.text.endswith("not better by 0")


def test_equal_candidate_is_not_better_but_not_worse_either():
    rows = held_out(noise=0.1, champion_noise=0.1)

    assert compared(rows).outcome == "not_enough_data"
    assert compared(rows, margin=-0.01).outcome == "passed"
    assert compared(rows, margin=0.01).outcome == "failed"


def test_same_model_is_not_better():
    rows = held_out()

    assert compared(rows).outcome == "failed"
    assert compared(rows, margin=-0.001).outcome == "passed"


def test_without_a_champion_nothing_is_compared():
    assert compared(held_out(champion_noise=None)).outcome == "passed"


@pytest.mark.parametrize("gates", [{"block_hours": 24 * 7}, {"minimum_rows": 10_000}])
def test_few_days_or_rows_are_not_enough(gates: dict[str, float]):
    found = compared(held_out(champion_noise=1.0), **gates)

    assert found.outcome == "not_enough_data"
    assert "raise retraining.holdout_days" in found.text


def test_declared_metric_is_compared():
    rows = held_out(champion_noise=1.0)

    assert rows.champion is not None
    assert compared(rows, metric="cost").text.startswith("cost is ")
    assert compared(rows, metric="brier").numbers["difference"] == pytest.approx(
        np.mean((rows.outputs - rows.labels) ** 2 - (rows.champion - rows.labels) ** 2)
    )


def test_loss_that_is_no_number_fails():
    rows = held_out()
    broken = dataclasses.replace(
        rows, outputs=np.where(np.arange(len(rows.labels)) == 7, np.nan, rows.outputs)
    )

    assert compared(broken, margin=-0.5).outcome == "failed"
