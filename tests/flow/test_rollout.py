"""Rollouts on a real Kafka and a real registry: promoted, rolled back by itself, ended by a person."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from services.model_registry import ledger_drafts, mlflow_client, models_topic
from services.model_registry.mlflow_client import CHALLENGER
from services.model_registry.traffic_split import CHAMPION
from services.operations.models import rollout_command
from services.rollout import rollout_arms
from streams.records import Arm, RolloutStepped
from tests.processes import Process
from tests.rollout_world import NEW, OLD, Behaviour, RolloutWorld
from tests.waiting import LIVENESS_SECONDS, until

MakeWorld = Callable[..., RolloutWorld]


@pytest.fixture
def make(kafka: str, mlflow: str, tmp_path: Path, unique_name: str) -> Iterator[MakeWorld]:
    made: list[RolloutWorld] = []

    def world(task: str = "binary") -> RolloutWorld:
        made.append(RolloutWorld(kafka, mlflow, tmp_path, unique_name, task))
        return made[-1]

    yield world
    for each in made:
        each.close()


@pytest.fixture
def running(tmp_path: Path) -> Callable[[RolloutWorld], Process]:
    return lambda world: Process("rollout", world.settings, log=tmp_path / "rollout.log")


def traffic_until(world: RolloutWorld, condition: Callable[[], bool], process: Process) -> None:
    """Let traffic go on until something has happened."""
    deadline = time.monotonic() + LIVENESS_SECONDS
    while not condition():
        process.check()
        assert time.monotonic() < deadline, [str(record) for record in world.history]
        world.hours(4)


def shares(world: RolloutWorld) -> list[int]:
    return [record.share for record in world.history if isinstance(record, RolloutStepped)]


def shown(world: RolloutWorld) -> str:
    return rollout_arms.described(world.latest.arms)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_equal_version_is_promoted_through_the_steps(
    make: MakeWorld, running: Callable[[RolloutWorld], Process], task: str
) -> None:
    world = make(task)
    with running(world) as process:
        world.request()
        traffic_until(world, lambda: bool(world.ended), process)
        until(lambda: world.aliases.get(CHAMPION) == NEW, "the alias follows", check=process.check)
    assert [record.outcome for record in world.ended] == ["promoted"]
    assert shares(world) == [0, 2000, 5000]
    assert shown(world) == f"champion {NEW} 10000"
    assert world.aliases["previous"] == OLD
    kinds = [entry.kind for entry in world.entries if entry.kind != "arms_changed"]
    assert kinds == ["rollout_start", *["rollout_step"] * 3, "promotion"]
    assert ledger_drafts.unrecorded(world.entries, {world.name: world.latest}) == []


@pytest.mark.parametrize(
    ("behaviour", "guardrail"),
    [
        (Behaviour(worse=2.5), "loss"),
        (Behaviour(fails=0.3), "errors"),
        (Behaviour(slow=20), "latency"),
    ],
    ids=["worse", "failing", "slow"],
)
def test_version_that_is_worse_live_is_rolled_back_by_itself(
    make: MakeWorld, running: Callable[[RolloutWorld], Process], behaviour: Behaviour, guardrail: str
) -> None:
    """As a shadow it was as good: it gets worse when it answers."""
    world = make()
    with running(world) as process:
        world.request()
        traffic_until(world, lambda: len(shares(world)) > 1, process)
        world.behaviour = behaviour
        traffic_until(world, lambda: bool(world.ended), process)
        until(lambda: shown(world) == f"champion {OLD} 10000", "the arms follow", check=process.check)
        assert process.count("driftline_rollouts", model=world.name, outcome="rolled_back") == 1
    (ended,) = world.ended
    assert ended.outcome == "rolled_back"
    assert ended.reason.startswith(f"{guardrail} is worse")
    assert {each.guardrail for each in ended.evidence} == {"loss", "errors", "latency", "shares"}
    assert world.aliases[CHAMPION] == OLD
    assert [entry.kind for entry in world.entries][-2:] == ["rollback", "arms_changed"]


def test_champion_by_hand_ends_a_rollout(make: MakeWorld, running: Callable[[RolloutWorld], Process]) -> None:
    world = make()
    with running(world) as process:
        world.request()
        traffic_until(world, lambda: len(shares(world)) > 1, process)
        world.arms([Arm(name=CHAMPION, version=OLD, weight=10_000)], "by hand: no canary at night")
        until(lambda: bool(world.ended), "the rollout ends", check=process.check)
    (ended,) = world.ended
    assert ended.outcome == "ended"
    assert "by hand: no canary at night" in ended.reason
    assert shown(world) == f"champion {OLD} 10000"


def test_alias_moved_by_hand_ends_a_rollout_and_is_put_back(
    make: MakeWorld, running: Callable[[RolloutWorld], Process]
) -> None:
    world = make()
    with running(world) as process:
        world.request()
        traffic_until(world, lambda: "challenger" in world.aliases, process)
        mlflow_client.connect(world.settings).set_registered_model_alias(world.name, CHAMPION, str(NEW))
        until(lambda: bool(world.ended), "the rollout ends", check=process.check)
        until(lambda: world.aliases[CHAMPION] == OLD, "the alias is put back", check=process.check)
    assert f"alias champion to version {NEW}" in world.ended[0].reason
    assert shown(world) == f"champion {OLD} 10000"


def test_commands_request_show_and_roll_back(
    make: MakeWorld,
    running: Callable[[RolloutWorld], Process],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = make()
    for variable, value in world.settings.environment().items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit, match="has no version before the champion"):
        rollout_command.rollback(world.name, by="ada")
    with running(world) as process:
        rollout_command.rollout(world.name, NEW, by="ada", reason="it is better")
        traffic_until(world, lambda: len(shares(world)) > 1, process)
        rollout_command.rollback(world.name, by="ada")
        assert shown(world) == f"champion {OLD} 10000"
        until(lambda: bool(world.ended), "the rollout ends", check=process.check)
    capsys.readouterr()
    rollout_command.show(world.name)
    lines = capsys.readouterr().out
    assert f"version {NEW} requested by ada: it is better" in lines
    assert "step 2, 20%: step 1 passed" in lines
    assert "rolled back by hand" in lines
    kinds = [(entry.kind, entry.actor) for entry in world.entries]
    assert kinds[0] == ("rollout_request", "ada")
    assert ("rollback", "ada") in kinds


@pytest.mark.parametrize(
    "theirs",
    [
        [Arm(name=CHAMPION, version=OLD, weight=5000), Arm(name=CHALLENGER, version=NEW, weight=5000)],
        [Arm(name=CHAMPION, version=NEW, weight=10_000)],
        [Arm(name=CHAMPION, version=OLD, weight=10_000)],
    ],
    ids=["next step", "promotion", "its own rollback"],
)
def test_rollback_by_hand_holds_when_the_rollout_changes_the_arms_meanwhile(
    make: MakeWorld, monkeypatch: pytest.MonkeyPatch, theirs: list[Arm]
) -> None:
    """The rollout writes between the command's read and its write."""
    world = make()
    for variable, value in world.settings.environment().items():
        monkeypatch.setenv(variable, value)
    canary = Arm(name=CHALLENGER, version=NEW, weight=2000)
    world.arms([Arm(name=CHAMPION, version=OLD, weight=8000), canary], "step 1")

    changes, send = [theirs], models_topic.connected_send(world.settings)

    def overtaken_once(batch: Sequence[models_topic.KeyedRecord]) -> None:
        if changes:
            world.arms(changes.pop(), "step 2")
        send(batch)

    monkeypatch.setattr(models_topic, "connected_send", lambda settings: overtaken_once)
    rollout_command.rollback(world.name, by="ada")
    assert shown(world) == f"champion {OLD} 10000"
    assert [(entry.kind, entry.version) for entry in world.entries][-1] == ("rollback", OLD)
