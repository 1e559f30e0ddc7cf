import numpy as np
import pytest

from services.retraining.gates import CallSample, GateResult, latency
from services.retraining.gates.latency import quantile_interval
from tests.unit.retraining.gates.held_out_rows import declaration, evidence, gates_of

MIB = 2**20


def calls(milliseconds: float, count: int = 500, seed: int = 1) -> CallSample:
    spread = np.random.default_rng(seed).lognormal(0, 0.2, count)
    return CallSample(milliseconds / 1000 * spread, 3 * MIB)


def check(own: CallSample | None, champion: CallSample | None = None, **gate) -> dict[str, GateResult]:
    declared = declaration(latency=gate)
    found = latency.check(declared, gates_of(declared), evidence(calls=own, champion_calls=champion))
    return {each.name: each for each in found}


def test_call_as_long_as_the_champions_passes():
    found = check(calls(1.0), calls(1.0, seed=2))["latency"]

    assert found.outcome == "passed"
    assert found.numbers["p50_ratio"] == pytest.approx(1, abs=0.1)


def test_slow_candidate_fails():
    found = check(calls(5.0), calls(1.0, seed=2))["latency"]

    assert found.outcome == "failed"
    assert "p50 is more than 2 times the champion's" in found.text


def test_few_pauses_of_the_machine_refuse_nobody():
    own = calls(1.0)
    own.seconds[:3] = 1.0

    assert check(own, calls(1.0, seed=2))["latency"].outcome == "passed"


def test_absolute_limit_holds_without_a_champion():
    assert check(calls(5.0), p99_ms_max=4)["latency"].outcome == "failed"
    assert check(calls(5.0))["latency"].outcome == "passed"


def test_size_is_limited():
    assert check(calls(1.0), mib_max=2)["size"].outcome == "failed"
    assert check(calls(1.0), mib_max=3)["size"].outcome == "passed"


def test_few_calls_are_not_enough():
    assert check(None)["latency"].outcome == "not_enough_data"
    found = check(calls(1.0, count=10), mib_max=2)
    assert {name: each.outcome for name, each in found.items()} == {
        "latency": "not_enough_data",
        "size": "failed",
    }


def test_quantile_lies_in_its_interval():
    low, value, high = quantile_interval(np.arange(1, 1001).astype(float), 0.99)

    assert low < value == 990 < high
    assert quantile_interval(np.ones(5), 0.99) == (1, 1, 1)
