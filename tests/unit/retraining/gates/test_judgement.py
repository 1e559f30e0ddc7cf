from collections.abc import Sequence

import numpy as np
import pytest

from services.retraining.gates import CallSample, CardState, GateResult, HeldOut, judge
from services.runtime.declaration import SegmentGate
from tests.unit.retraining import task_models
from tests.unit.retraining.gates.held_out_rows import (
    COUNT,
    TIMES_MS,
    declaration,
    evidence,
    gates_of,
    held_out,
)


def test_only_declared_gates_are_judged():
    report = judge(declaration(), evidence(held_out(champion_noise=1.0)))

    assert [each.name for each in report.results] == ["floor", "champion", "leakage"]
    assert report.passed


def test_all_declared_gates_are_judged():
    declared = declaration(
        segments=("shop",),
        limits={"auc": {"min": 0.6}},
        fairness={"groups": ["shop"], "demographic_parity_max": None, "equal_opportunity_max": 0.3},
        calibration={},
        latency={"mib_max": 10},
        model_card=True,
    )
    gates = gates_of(declared).model_copy(update={"segments": SegmentGate()})
    calls = CallSample(np.full(100, 0.001), 1)
    report = judge(
        declared.model_copy(update={"gates": gates}),
        evidence(held_out(champion_noise=1.0), calls=calls, champion_calls=calls, card=CardState()),
    )

    assert [each.name for each in report.results] == [
        "floor",
        "limit auc",
        "champion",
        "segments",
        "fairness shop equal_opportunity",
        "calibration",
        "leakage",
        "latency",
        "size",
        "model card",
    ]
    assert report.reasons == []


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_models_of_other_tasks_are_judged(task: str):
    outputs, labels = task_models.rows(task, COUNT)
    worse = np.full_like(outputs, 1 / 3 if task == "multiclass" else 0.0)

    better = judge(declaration(task), evidence(HeldOut(labels, outputs, TIMES_MS, worse)))
    reverse = judge(declaration(task), evidence(HeldOut(labels, worse, TIMES_MS, outputs)))
    assert better.passed
    assert [each.name for each in reverse.refusing] == ["champion"]


def test_undecided_follows_the_declaration():
    rows = held_out(noise=0.1, champion_noise=0.1)

    assert not judge(declaration(), evidence(rows)).passed
    assert judge(declaration(undecided="accept"), evidence(rows)).passed


def test_the_card_is_judged_with_the_results_that_it_shows():
    shown: list[str] = []

    def describe(results: Sequence[GateResult]) -> CardState:
        shown.extend(each.name for each in results)
        return CardState(missing=["Limitations"])

    report = judge(declaration(model_card=True), evidence(held_out(champion_noise=1.0)), describe)
    assert shown == ["floor", "champion", "leakage"]
    assert report.reasons == ["model card: sections without text: Limitations"]
    judge(declaration(), evidence(held_out(champion_noise=1.0)), describe)
    assert len(shown) == 3, "a card that no gate wants is not made"
