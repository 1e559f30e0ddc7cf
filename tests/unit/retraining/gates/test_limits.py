import dataclasses

import numpy as np
import pytest

from services.retraining.gates import limits
from tests.unit.retraining.gates.held_out_rows import declaration, evidence, gates_of, held_out


def outcomes(**gates) -> dict[str, str]:
    declared = declaration(**gates)
    return {each.name: each.outcome for each in limits.check(declared, gates_of(declared), evidence())}


def test_floor_is_a_ceiling_of_the_loss():
    assert outcomes(floor=0.6) == {"floor": "passed"}
    assert outcomes(floor=0.4) == {"floor": "failed"}
    assert outcomes(floor=0.1, metric="brier") == {"floor": "failed"}


def test_every_measure_can_have_limits():
    found = outcomes(limits={"auc": {"min": 0.9}, "recall": {"min": 0.5, "max": 0.9}})

    assert found == {"floor": "passed", "limit auc": "failed", "limit recall": "passed"}


def test_few_rows_are_not_enough():
    assert outcomes(minimum_rows=100_000) == {"floor": "not_enough_data"}


@pytest.mark.parametrize(("task", "metric"), [("regression", "rmse"), ("multiclass", "f1")])
def test_limits_are_for_every_task(task: str, metric: str):
    declared = declaration(task, limits={metric: {"min": 0}})
    rows = held_out()
    outputs = rows.outputs if task == "regression" else np.full((len(rows.labels), 3), 1 / 3)
    changed = dataclasses.replace(rows, outputs=outputs, champion=None)
    found = limits.check(declared, gates_of(declared), evidence(changed))

    assert [each.outcome for each in found] == ["passed", "passed"]
    assert found[1].numbers.keys() == {metric, "rows", "min"}


def test_loss_that_is_no_number_fails():
    declared = declaration()
    rows = dataclasses.replace(held_out(), outputs=np.full(len(held_out().labels), np.nan))

    assert limits.check(declared, gates_of(declared), evidence(rows))[0].outcome == "failed"


def test_measure_that_rows_do_not_define_is_not_enough_data():
    declared = declaration(limits={"auc": {"min": 0.6}})
    rows = dataclasses.replace(held_out(), labels=np.ones(len(held_out().labels)))

    assert limits.check(declared, gates_of(declared), evidence(rows))[1].outcome == "not_enough_data"
