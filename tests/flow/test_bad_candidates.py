"""Bad candidates on real flights with all processes: each is stopped, and the ledger says by what."""

from collections.abc import Callable

import pytest

from tests.flow.demo_process import DemoProcess


@pytest.mark.timeout(1500)
def test_each_bad_candidate_is_stopped_by_its_gate_and_the_one_that_is_worse_live_is_rolled_back(
    start_demo: Callable[..., DemoProcess],
) -> None:
    demo = start_demo("--bad-candidates")
    code = demo.process.wait(timeout=1400)
    assert code == 0, demo.text()
    result = demo.result()
    assert result["faults"] == []
    found = {each["candidate"]: each for each in result["candidates"]}
    assert {name: (each["outcome"], each["stopped_by"]) for name, each in found.items()} == {
        "leaking": ("rejected", ["leakage"]),
        "shuffled labels": ("rejected", ["champion"]),
        "unfair": ("rejected", ["fairness origin equal_opportunity"]),
        "slow": ("rejected", ["latency"]),
        "worse live": ("rolled_back", ["loss"]),
    }
    assert found["leaking"]["numbers"]["arrival_code"] > 0.99
    assert found["shuffled labels"]["numbers"]["low"] > 0.002, "surely worse than the champion"
    assert found["unfair"]["numbers"]["low"] > found["unfair"]["numbers"]["max"]
    assert found["slow"]["numbers"]["p50_ratio_low"] > 2
    live = found["worse live"]["numbers"]
    assert live["evidence"] >= live["needed"]
    assert live["difference"] > 0.05, "above the declared margin"
    versions = [each["version"] for name, each in found.items() if name != "leaking"]
    assert versions == [2, 3, 4, 5]
    assert result["requests_sent"] == result["predicted"], "an answer for each request, also in the rollout"
    assert demo.left_behind() == []
