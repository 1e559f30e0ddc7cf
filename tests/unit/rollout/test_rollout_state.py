import itertools

import msgspec

from services.rollout import rollout_arms, rollout_state
from services.rollout.rollout_state import ModelRollouts
from services.rollout.step_verdict import StepVerdict
from streams.records import Arm, RolloutEnded, RolloutRecord, RolloutRequested, RolloutStepped
from tests.unit.rollout.rollout_model import CHAMPION, NEW, OLD, declaration

DECLARED = declaration().rollout
PASSED = StepVerdict("passed", "all is well", [])


def request(number: int = 1, version: int = NEW) -> RolloutRequested:
    return RolloutRequested(
        request_id=f"r{number}",
        model="returned",
        version=version,
        requested_at_ms=0,
        reason="by hand",
        actor="ada",
    )


class World:
    """A rollout whose records and arms are written one after another, as the process writes them."""

    def __init__(self) -> None:
        self.records: list[RolloutRecord] = [request()]
        self.arms: list[Arm] = list(CHAMPION)
        self.now_ms = 0

    @property
    def rollouts(self) -> ModelRollouts:
        return rollout_state.fold(self.records)

    def begin(self, *, awaits_approval: bool = False) -> None:
        self.records.append(
            rollout_state.started(request(), self.arms, at_ms=0, awaits_approval=awaits_approval)
        )

    def write(self, record: RolloutRecord | None) -> None:
        """Write a decision, and the arms that follow from it."""
        assert record is not None
        self.records.append(record)
        self.follow()

    def follow(self) -> None:
        current = self.rollouts.current
        assert current is not None
        self.arms = rollout_state.arms_asked_for(current, self.arms)

    def judged(self, verdict: StepVerdict) -> RolloutStepped | RolloutEnded | None:
        current = self.rollouts.current
        assert current is not None
        self.now_ms += 1000
        return rollout_state.next_step("returned", current, DECLARED, self.arms, verdict, self.now_ms)

    def first_step(self) -> RolloutStepped | RolloutEnded:
        current = self.rollouts.current
        assert current is not None
        return rollout_state.step("returned", current, DECLARED, self.arms, 0, 1, "begins")


def test_challenger_that_passes_each_step_becomes_the_champion() -> None:
    world = World()
    world.begin()
    world.write(world.first_step())
    shown = [rollout_arms.described(world.arms)]
    for _ in range(3):
        world.write(world.judged(PASSED))
        shown.append(rollout_arms.described(world.arms))
    assert shown == [
        "challenger 2 shadow; champion 1 10000",
        "challenger 2 1000; champion 1 9000",
        "challenger 2 5000; champion 1 5000",
        "champion 2 10000",
    ]
    current = world.rollouts.current
    assert current is not None
    assert (current.phase, current.outcome) == ("ended", "promoted")
    assert not world.rollouts.is_active


def test_worse_challenger_is_rolled_back() -> None:
    world = World()
    world.begin()
    world.write(world.first_step())
    world.write(world.judged(PASSED))
    world.write(world.judged(StepVerdict("worse", "loss is worse", [])))
    current = world.rollouts.current
    assert current is not None
    assert current.outcome == "rolled_back"
    assert rollout_arms.described(world.arms) == "champion 1 10000"


def test_inconclusive_step_does_what_is_declared() -> None:
    world = World()
    world.begin()
    world.write(world.first_step())
    current = world.rollouts.current
    assert current is not None
    verdict = StepVerdict("inconclusive", "too few labels", [])
    found = {
        what: rollout_state.next_step(
            "returned", current, declaration(when_inconclusive=what).rollout, world.arms, verdict, 9
        )
        for what in ("end", "continue", "pass")
    }
    assert isinstance(found["end"], RolloutEnded)
    assert found["end"].outcome == "inconclusive"
    assert found["continue"] is None
    assert isinstance(found["pass"], RolloutStepped)
    assert found["pass"].step == 1


def test_arms_with_wrong_shares_end_the_rollout_whatever_is_declared() -> None:
    world = World()
    world.begin()
    world.write(world.first_step())
    current = world.rollouts.current
    assert current is not None
    declared = declaration(when_inconclusive="continue").rollout
    verdict = StepVerdict("mismatch", "keys are lost", [])
    ended = rollout_state.next_step("returned", current, declared, world.arms, verdict, 9)
    assert isinstance(ended, RolloutEnded)
    assert ended.outcome == "inconclusive"


def test_first_version_of_a_model_is_the_champion_at_once() -> None:
    world = World()
    world.arms = []
    world.begin()
    world.write(world.first_step())
    assert rollout_arms.described(world.arms) == "champion 2 10000"
    assert world.arms[0].effective_from_ms == 0


def test_crash_between_any_two_writes_leads_to_the_same_end() -> None:
    """After a crash the decision is on the topic, and the arms may lack it; all is done again from there."""
    whole = World()
    whole.begin()
    whole.write(whole.first_step())
    for _ in range(3):
        whole.write(whole.judged(PASSED))
    for stop, has_arms in itertools.product(range(2, len(whole.records)), [False, True]):
        world = World()
        world.records = whole.records[: stop + 1]
        replayed = World()
        for record in whole.records[2 : stop + 1]:
            replayed.records.append(record)
            if has_arms or record is not whole.records[stop]:
                current = rollout_state.fold([*whole.records[:2], *replayed.records[1:]]).current
                assert current is not None
                replayed.arms = rollout_state.arms_asked_for(current, replayed.arms)
        world.arms = replayed.arms
        current = world.rollouts.current
        assert current is not None
        assert rollout_state.interference(current, world.arms, "ours") is None
        assert rollout_state.is_in_effect(current, world.arms) is has_arms
        world.follow()
        assert rollout_state.is_in_effect(current, world.arms)
        while world.rollouts.is_active:
            world.write(world.judged(PASSED))
        assert rollout_arms.described(world.arms) == "champion 2 10000"


def test_repeated_records_change_nothing() -> None:
    world = World()
    world.begin()
    world.write(world.first_step())
    world.write(world.judged(PASSED))
    doubled = [record for record in world.records for _ in range(2)]
    assert rollout_state.fold(doubled).current == world.rollouts.current


def test_change_by_somebody_else_is_told_and_leaves_their_champion() -> None:
    world = World()
    world.begin()
    world.write(world.first_step())
    world.write(world.judged(PASSED))
    current = world.rollouts.current
    assert current is not None
    world.arms = [msgspec.structs.replace(CHAMPION[0], version=9)]
    text = rollout_state.interference(current, world.arms, "by hand: version 9 is the champion")
    assert text is not None
    assert "by hand: version 9 is the champion" in text
    world.write(rollout_state.end("returned", current, world.arms, "ended", 5, text))
    assert rollout_arms.described(world.arms) == "champion 9 10000"


def test_unrelated_shadow_does_not_disturb_a_rollout() -> None:
    world = World()
    world.begin()
    world.write(world.first_step())
    current = world.rollouts.current
    assert current is not None
    arms = [*world.arms, Arm(name="frozen", version=1, weight=0, shadow=True)]
    assert rollout_state.interference(current, arms, "") is None


def test_rollout_that_is_not_possible_says_why() -> None:
    world = World()
    world.begin()
    current = world.rollouts.current
    assert current is not None
    taken = rollout_arms.of_step(CHAMPION, 8, OLD, 500, at_ms=1)
    champion = [msgspec.structs.replace(CHAMPION[0], version=NEW)]
    assert rollout_state.impossible(current, CHAMPION, DECLARED) is None
    assert "belongs to another version" in str(rollout_state.impossible(current, taken, DECLARED))
    assert "is the champion already" in str(rollout_state.impossible(current, champion, DECLARED))
    assert "not declared" in str(rollout_state.impossible(current, CHAMPION, None))
    running = msgspec.structs.replace(current, phase="running", step=2)
    fewer = declaration(steps=[{"share": "5%"}]).rollout
    assert "fewer steps" in str(rollout_state.impossible(running, CHAMPION, fewer))


def test_request_is_taken_up_once_and_a_later_one_supersedes_those_that_wait() -> None:
    rollouts = rollout_state.fold([request(1), request(2, 3), request(2, 3)])
    assert [each.request_id for each in rollouts.waiting] == ["r1", "r2"]
    rollouts.apply(rollout_state.superseded(request(1), request(2, 3), at_ms=0))
    assert [each.request_id for each in rollouts.waiting] == ["r2"]
    rollouts.apply(rollout_state.started(request(2, 3), CHAMPION, at_ms=0, awaits_approval=True))
    assert rollouts.waiting == []
    assert rollouts.current is not None
    assert rollouts.current.phase == "awaiting_approval"
    rollouts.request(request(1))
    assert rollouts.waiting == []
