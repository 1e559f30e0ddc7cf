"""kill -9 of the rollout process after each of its writes: records, ledger, arms and aliases agree."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.model_registry import ledger_drafts
from services.model_registry.traffic_split import CHAMPION
from services.rollout import rollout_arms
from streams.records import ModelChanged
from tests.processes import Process
from tests.rollout_world import NEW, OLD, Behaviour, RolloutWorld
from tests.waiting import LIVENESS_SECONDS, until

KILLED_AFTER_EACH_WRITE = """
import os, signal
from mlflow import MlflowClient
from services.operations import cli
from services.runtime.kafka_outbox import Outbox
from streams import topics

DECISIONS = {topics.ROLLOUTS.name, topics.LEDGER.name, topics.MODELS.name}


def then_killed(work, concerns=lambda *_: True):
    def wrapped(self, *args, **kwargs):
        found = work(self, *args, **kwargs)
        if concerns(*args):
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    return wrapped


def decides(stage):
    return bool(DECISIONS & {topic for (topic, _), batch in stage.items() if batch})


Outbox.write = then_killed(Outbox.write, decides)
MlflowClient.set_registered_model_alias = then_killed(MlflowClient.set_registered_model_alias)
cli.main()
"""


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
    ("behaviour", "outcome", "version"),
    [(Behaviour(), "promoted", NEW), (Behaviour(fails=0.5), "rolled_back", OLD)],
    ids=["promoted", "rolled back"],
)
def test_process_that_is_killed_after_each_write_ends_a_rollout_once(
    world: RolloutWorld, tmp_path: Path, behaviour: Behaviour, outcome: str, version: int
) -> None:
    world.request()
    command = (sys.executable, "-c", KILLED_AFTER_EACH_WRITE, "rollout")
    kills, deadline = 0, time.monotonic() + 4 * LIVENESS_SECONDS
    with Process("rollout", world.settings, log=tmp_path / "killed.log", command=command) as process:
        while not (world.ended and has_settled(world, version)):
            assert time.monotonic() < deadline, [str(record) for record in world.history]
            if not process.alive:
                process.wait_dead()
                kills += 1
                process.start()
            if len(world.history) > 3:
                world.behaviour = behaviour  # from the first canary step on
            if process.is_ready():
                world.hours(1)
        process.kill()
    assert kills >= 10
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
