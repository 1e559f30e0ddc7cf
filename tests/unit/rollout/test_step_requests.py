from typing import Any

import msgspec

from services.rollout import step_evidence
from services.rollout.label_windows import LabelWindows
from services.rollout.step_requests import StepRequests
from streams.records import ASKED_OVER_HTTP, Prediction
from tests.unit.rollout.rollout_model import (
    NEW,
    START_MS,
    STEPS,
    declaration,
    prediction,
    progress,
    shadowed,
)

WEIGHTS = {0: (0, 10_000), 1: (1000, 9000)}


def requests(step: int = 0, key: str | None = None, **rollout: Any) -> StepRequests:
    declared = declaration(key, **rollout)
    share = 0 if step == 0 else WEIGHTS[step][0]
    evidence = step_evidence.of_step(declared, "r1", step, START_MS, WEIGHTS[step])
    windows = LabelWindows(declared, {}, {})
    return StepRequests(declared, progress(step, share), WEIGHTS[step], evidence, windows, set())


def own(number: int, **changes: Any) -> Prediction:
    settings = {"version": NEW, "arm": "challenger", "arm_weight": 1000, **changes}
    return prediction(number, START_MS, **settings)


def other(number: int, **changes: Any) -> Prediction:
    return prediction(number, START_MS, arm_weight=9000, **changes)


def test_shadow_is_compared_on_the_requests_of_the_champion() -> None:
    found = requests()
    found.take(0, shadowed(1, START_MS, 0.2, 0.4), None)
    found.take(0, prediction(2, START_MS), None)  # scored before the step was in effect
    found.take(0, shadowed(3, START_MS - 1, 0.2, 0.4), None)
    found.take(0, shadowed(4, START_MS, 0.2, 0.4, arm="west"), None)
    assert found.evidence.requests == 1
    waiting = found._windows.waiting["p1"]
    assert waiting.other is not None
    assert (waiting.output.score, waiting.other.score) == (0.4, 0.2)


def test_score_that_a_shadow_lacks_is_an_error() -> None:
    found = requests()
    for number in range(200):
        at_ms = START_MS + number * 1000
        found.take(0, shadowed(number, at_ms, 0.2, None), None)
    found.close_units()
    assert found.evidence.missing.units > 5
    assert found.evidence.missing.log_evidence[0] > 5


def test_arms_are_told_apart_by_name_version_and_share() -> None:
    found = requests(1)
    found.take(0, own(1), None)
    found.take(0, other(2), None)
    found.take(0, prediction(3, START_MS), None)  # the share before the step
    found.take(0, own(4, version=9), None)
    found.take(0, own(5, arm_weight=500), None)
    assert (found.evidence.requests, found.evidence.champion_requests) == (1, 1)


def test_request_for_which_the_champion_stood_in_is_an_error_of_the_challenger() -> None:
    found = requests(1)
    fallback = other(1, fallback_from="challenger", fallback_version=NEW)
    found.take(0, fallback, None)
    assert found.evidence.errors == [1, 0]
    assert (found.evidence.requests, found.evidence.champion_requests) == (1, 0)
    assert not found._windows.waiting


def test_key_counts_once() -> None:
    found = requests(1, key="shop")
    for number in range(5):
        found.take(0, own(number), b"shop-1")
    found.take(0, own(9), b"shop-2")
    assert found.evidence.requests == 2


def test_without_a_declared_key_each_request_counts() -> None:
    found = requests(1)
    for number in range(5):
        found.take(0, own(number), b"shop-1")
    assert found.evidence.requests == 5


def test_key_of_a_request_over_http_is_not_known() -> None:
    found = requests(1, key="shop")
    found.take(0, own(1, source_offset=ASKED_OVER_HTTP), b"p1")
    assert found.evidence.requests == 0


def test_only_a_sample_of_the_champion_waits_for_labels() -> None:
    found = requests(1)
    for number in range(2000):
        found.take(0, other(number), None)
    assert found.evidence.champion_requests == 2000
    assert 700 < len(found._windows.waiting) < 1080  # four for each of the challenger's, of nine


def test_whole_share_is_compared_with_the_shadow_of_the_version_before() -> None:
    steps = [*STEPS[:1], {"share": "100%"}]
    declared = declaration(steps=steps)
    evidence = step_evidence.of_step(declared, "r1", 1, START_MS, (10_000, 0))
    found = StepRequests(
        declared, progress(1, 10_000), (10_000, 0), evidence, LabelWindows(declared, {}, {}), set()
    )
    given = own(1, score=0.7, arm_weight=10_000)
    found.take(
        0,
        msgspec.structs.replace(given, shadow_versions={"previous": 1}, shadow_scores={"previous": 0.6}),
        None,
    )
    waiting = found._windows.waiting["p1"]
    assert waiting.other is not None
    assert (waiting.output.score, waiting.other.score) == (0.7, 0.6)
