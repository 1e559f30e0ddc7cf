"""Labels that are wrong do not reach the champion; a change that lasts does."""

import random
from typing import Any

import msgspec
import pytest

from services.learning.intervals import LearningOutputs
from services.learning.learner_state import GateState, LearnerState, Lesson
from services.learning.version_gate import REMEMBERED_MAX, ROWS_MAX, ROWS_MIN, GateVerdict, VersionGate
from tests.unit.learning import traffic

HOURS = 80
POISONED = range(50, 55)
"""Hours of wrong labels: they are within three intervals of two hours."""


def poisoned(hours: range) -> traffic.Traffic:
    return traffic.with_wrong_labels(traffic.traffic(HOURS, a_hour=100), hours)


def verdicts(outputs: list[LearningOutputs]) -> dict[int, GateVerdict]:
    return {each.version: each for step in outputs for each in step.verdicts}


def outcomes(verdict: GateVerdict) -> dict[str, str]:
    return {each.name: each.outcome for each in verdict.report.results}


def champions(outputs: list[LearningOutputs]) -> list[int]:
    return [each.version for step in outputs for each in step.learned if each.passed]


def test_versions_of_clean_labels_pass() -> None:
    found = verdicts(traffic.play(traffic.new_learner(), poisoned(range(0))))
    assert all(each.report.passed for each in found.values())
    assert outcomes(found[max(found) - 4]) == {"champion": "passed", "earlier rows": "passed"}
    assert [number for number, each in found.items() if each.is_news] == [1]


def test_no_version_of_a_poisoned_stretch_becomes_champion() -> None:
    outputs = traffic.play(traffic.new_learner(), poisoned(POISONED))
    found = verdicts(outputs)
    refused = sorted(found.keys() - set(champions(outputs)))
    assert refused[:3] == [26, 27, 28]  # the intervals from hour 50 to hour 56
    assert outcomes(found[27]) == {"champion": "passed", "earlier rows": "failed"}
    assert max(found) - 4 in champions(outputs)  # it has learned enough right labels again
    assert [number for number, each in found.items() if each.is_news] == [1, *refused, refused[-1] + 1]
    numbers = found[27].report.results[-1].numbers
    assert numbers["low"] > numbers["allowed"] > 0


def test_a_lasting_change_is_followed_after_the_declared_intervals() -> None:
    learning = traffic.document()["learning"] | {"gates": {"lasting_intervals": 4}}
    outputs = traffic.play(traffic.new_learner(learning=learning), poisoned(range(50, HOURS + 9)))
    found, passed = verdicts(outputs), champions(outputs)
    assert sorted(found.keys() - set(passed)) == [26, 27, 28, 29]
    assert "taken as lasting" in found[30].report.results[-1].text


def test_verdicts_do_not_depend_on_slices_or_restarts() -> None:
    logs, straight = poisoned(POISONED), traffic.new_learner()
    expected = verdicts(traffic.play(straight, logs))
    assert verdicts(traffic.play(traffic.new_learner(), logs, random.Random(3))) == expected

    learner, player, chance = traffic.new_learner(), traffic.Player(logs), random.Random(4)
    found: dict[int, GateVerdict] = {}
    while places := player.open:
        found |= verdicts([player.step(learner, chance.choice(places), chance.randrange(1, 400))])
        if chance.random() < 0.2:
            written = msgspec.msgpack.encode(learner.state())
            learner = traffic.new_learner(state=msgspec.msgpack.decode(written, type=LearnerState))
            player.seek(learner)
    assert found == expected


def test_a_limit_refuses_what_predicts_badly_even_without_a_better_version() -> None:
    gates = {"limits": {"absolute_error": {"max": 0.1}}}
    learning = traffic.document()["learning"] | {"gates": gates}
    outputs = traffic.play(traffic.new_learner(learning=learning), poisoned(range(0)))
    last = verdicts(outputs)[max(champions(outputs)) + 1]
    assert outcomes(last)["limit absolute_error"] == "failed"
    assert "is not within its limits" in last.report.reasons[0]


@pytest.mark.parametrize(("undecided", "passes"), [("accept", True), ("refuse", False)])
def test_what_follows_from_too_few_labels_is_declared(undecided: str, *, passes: bool) -> None:
    learning = traffic.document()["learning"] | {"gates": {"undecided": undecided, "minimum_rows": 10_000}}
    outputs = traffic.play(traffic.new_learner(learning=learning), traffic.traffic(12))
    assert {each.report.passed for each in verdicts(outputs).values()} == {passes}
    assert "minimum_rows is 10000: wait for labels" in verdicts(outputs)[3].report.results[0].text


def lessons(count: int, start: int = 0) -> list[Lesson]:
    return [
        Lesson(number, f"p{number}", 1.0, [0.0, "red"], 0, number, 1.5)
        for number in range(start, start + count)
    ]


def gate(state: GateState, **learning: Any) -> VersionGate:
    document = traffic.document()["learning"] | {"gates": learning}
    return VersionGate(traffic.declaration(learning=document), state)


def judged(made: VersionGate, given: list[Lesson], predict: Any) -> GateVerdict:
    for place in sorted(made.select(given)):
        made.measure(given[place], predict)
    return made.judge(1, 0, predict)


def test_measured_and_remembered_rows_are_bounded() -> None:
    state = GateState()
    made = gate(state)
    for number in range(9):
        verdict = judged(made, lessons(1000, number * 1000), lambda _: 1.0)
        assert verdict.report.results[0].numbers["rows"] == ROWS_MIN
    verdict = judged(made, lessons(10_000, 9000), lambda _: 1.0)
    assert [each.numbers["rows"] for each in verdict.report.results] == [ROWS_MAX, ROWS_MAX]
    assert len(state.remembered) == REMEMBERED_MAX
    assert {each.label_time_ms // 1000 for each in state.remembered} == {6, 7, 8, *range(9, 19)}


def test_rows_of_a_failed_version_are_not_remembered() -> None:
    state = GateState()
    assert judged(gate(state), lessons(300), lambda _: 9.0).report.outcome == "failed"
    assert not state.remembered


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_version_without_finite_predictions_fails(score: float) -> None:
    verdict = judged(gate(GateState()), lessons(300), lambda _: score)
    assert "no finite number for 64 of 64 rows" in verdict.report.reasons[0]


def test_a_version_that_raises_errors_fails() -> None:
    def raises(_: Lesson) -> float:
        raise ZeroDivisionError

    assert judged(gate(GateState()), lessons(300), raises).report.outcome == "failed"


def test_rows_that_the_champion_did_not_answer_are_not_measured() -> None:
    unanswered = [msgspec.structs.replace(each, score=None) for each in lessons(300)]
    verdict = judged(gate(GateState()), unanswered, lambda _: 9.0)
    assert (verdict.report.outcome, verdict.report.passed) == ("not_enough_data", True)
