"""SIGKILL of the rollout process before and after each write: records, ledger, arms and aliases agree."""

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from services.model_registry import ledger_drafts
from services.model_registry.traffic_split import CHAMPION
from services.rollout import rollout_arms
from streams.records import ModelChanged
from tests.processes import Process
from tests.rollout_world import NEW, OLD, Behaviour, RolloutWorld
from tests.waiting import LIVENESS_SECONDS, until
from tests.workers import killed


def changed(arms: str) -> list[str]:
    return [f"driftline.models {arms}", f"driftline.ledger arms_changed {arms}"]


def stepped(number: int, arms: str) -> list[str]:
    step = [f"driftline.rollouts rollout_stepped {number}", f"driftline.ledger rollout_step {number}"]
    return [*step, *changed(arms)]


def ended(outcome: str, kind: str, arms: str) -> list[str]:
    return [f"driftline.rollouts rollout_ended {outcome}", f"driftline.ledger {kind}", *changed(arms)]


ALIAS = "mlflow set_registered_model_alias"
BEGUN = [
    "offsets",  # of the group that shares the models
    "driftline.rollouts rollout_started",
    "driftline.ledger rollout_start",
    *stepped(0, "challenger 2 shadow; champion 1 10000"),
    f"{ALIAS} challenger",
    *stepped(1, "challenger 2 2000; champion 1 8000"),
]
ROLLED_BACK = [*BEGUN, *ended("rolled_back", "rollback", "champion 1 10000")]
PROMOTED = [
    *BEGUN,
    *stepped(2, "challenger 2 5000; champion 1 5000"),
    *ended("promoted", "promotion", "champion 2 10000"),
    f"{ALIAS} previous",
    f"{ALIAS} champion",
]
"""Every write of a rollout, as `tests.workers.killed` names it. A write that is new fails the test: think of
what a repeat of it does after a kill, then add it here."""


@pytest.fixture
def world(kafka: str, mlflow: str, tmp_path: Path, unique_name: str) -> Iterator[RolloutWorld]:
    made = RolloutWorld(kafka, mlflow, tmp_path, unique_name)
    yield made
    made.close()


def has_settled(world: RolloutWorld, version: int) -> bool:
    return world.aliases.get(CHAMPION) == version and (
        rollout_arms.described(world.latest.arms) == f"champion {version} 10000"
    )


def unrecorded(world: RolloutWorld) -> list[ModelChanged]:
    return ledger_drafts.unrecorded(world.entries, {world.name: world.latest})


@pytest.mark.parametrize(
    ("behaviour", "outcome", "version", "writes"),
    [(Behaviour(), "promoted", NEW, PROMOTED), (Behaviour(fails=0.5), "rolled_back", OLD, ROLLED_BACK)],
    ids=["promoted", "rolled back"],
)
def test_process_that_is_killed_around_each_write_ends_a_rollout_once(
    world: RolloutWorld,
    tmp_path: Path,
    behaviour: Behaviour,
    outcome: str,
    version: int,
    writes: Sequence[str],
) -> None:
    world.request()
    folder = tmp_path / "kills"
    folder.mkdir()
    command = (sys.executable, "-m", "tests.workers.killed", "rollout", str(folder))
    deadline = time.monotonic() + 4 * LIVENESS_SECONDS
    with Process("rollout", world.settings, log=tmp_path / "killed.log", command=command) as process:
        while not (world.ended and has_settled(world, version)):
            assert time.monotonic() < deadline, [str(record) for record in world.history]
            process.check()
            if len(world.history) > 3:
                world.behaviour = behaviour  # from the first canary step on
            if process.is_ready():
                world.hours(1)
        until(lambda: len(killed.writes_of(folder)) >= 2 * len(writes), "all kills", check=process.check)
    killed_at = killed.writes_of(folder)
    assert sorted(killed_at) == sorted(f"{when} {each}" for each in writes for when in ("before", "after"))
    with Process("rollout", world.settings, log=tmp_path / "calm.log") as process:
        process.wait_ready()
        until(lambda: world.aliases.get(CHAMPION) == version, "the alias", check=process.check)
        until(lambda: not unrecorded(world), "the entry of the last change", check=process.check)
    (ended,) = world.ended
    assert ended.outcome == outcome
    assert has_settled(world, version)
    assert not unrecorded(world)
    decisions = [entry for entry in world.entries if entry.kind != "arms_changed"]
    kinds = [entry.entry_id.partition("/")[2] for entry in decisions]
    assert len(kinds) == len(set(kinds))
    steps = [kind for kind in kinds if kind.startswith("rollout_step")]
    assert kinds == ["rollout_start", *steps, "promotion" if version == NEW else "rollback"]
    assert len(world.history) == 1 + len(kinds)
    assert world.aliases.get("previous") == (OLD if version == NEW else None)
