"""Learning with predictions on disk learns what learning with all of them in memory learns."""

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.learning import learner_basis
from services.learning.learner import Learner
from services.learning.learner_state import fresh_state
from services.learning.session import CHECKPOINTS
from services.monitoring import pending_predictions, pending_restore
from streams.feature_sets import FeatureSets, feature_set
from streams.inputs import PREDICTION
from tests.unit.learning import traffic

LOGS = traffic.traffic(20)


@pytest.fixture(scope="module")
def straight():
    return traffic.published(traffic.play(traffic.new_learner(), LOGS))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(pending_predictions, "IN_MEMORY_MAX", 10)


def opened(folder: Path, kept: bytes | None = None, names=traffic.NAMES) -> Learner:
    """Return a learner that goes on from a checkpoint, as the process does."""
    state = None if kept is None else CHECKPOINTS.decode(kept, "m", "m.labels")
    found = fresh_state("m", 2, 2, state)
    sets = FeatureSets([feature_set("m", traffic.NAMES, ["colour"])])
    learner = Learner(traffic.declaration(), names, traffic.estimator, found, sets)
    disk, lost_from = pending_restore.open_disk(folder, found.on_disk)
    learner.pending.use_disk(disk)
    if lost_from is not None:
        rebuild = learner.rebuild(disk, lost_from)
        for place, log in traffic.Player(LOGS).logs.items():
            start = rebuild.inputs.resume()[place].offset
            for offset, record in enumerate(log[start:], start):
                if isinstance(record, int):
                    continue
                add = rebuild.add_prediction if place.kind == PREDICTION else rebuild.add_label
                add(place.partition, offset, record)
        rebuild.advance()
        rebuild.finish(found.pending, learner.evicted_before_ms)
    return learner


def checkpoint(learner: Learner) -> bytes:
    return CHECKPOINTS.encode("m", "m.labels", learner.state())


def on_disk(kept: bytes) -> int:
    return CHECKPOINTS.decode(kept, "m", "m.labels").on_disk.generation


def assert_same(outputs, straight) -> None:
    versions: dict[int, Any] = {}
    for each in traffic.published(outputs):
        assert versions.setdefault(each.version, each) == each
    assert list(versions.values()) == straight


@pytest.mark.parametrize("loses", [False, True], ids=["kept", "lost"])
@pytest.mark.parametrize("seed", range(5))
def test_restarts_with_a_disk_change_nothing(straight, tmp_path, seed, *, loses):
    """A restart follows a checkpoint, or a commit without its checkpoint, or the loss of the disk."""
    chance, player, folder = random.Random(seed), traffic.Player(LOGS), tmp_path / "0"
    learner, outputs, generations = opened(folder), [], 0
    kept = checkpoint(learner)
    while places := player.open:
        outputs.append(player.step(learner, chance.choice(places), chance.randrange(1, 60)))
        if learner.pending.needs_settling or chance.random() < 0.3:
            kept = checkpoint(learner)
            generations = max(generations, on_disk(kept))
        if chance.random() < 0.1:
            if chance.random() < 0.5:
                learner.state()  # committed, and never written
            waiting = len(learner.pending)
            learner.pending.close()
            if loses:
                folder = tmp_path / str(int(folder.name) + 1)
            learner = opened(folder, kept)
            assert waiting == 0 or len(learner.pending) > 0
            player.seek(learner)
    learner.pending.close()
    assert generations > 3
    assert_same(outputs, straight)


def test_a_lost_disk_holds_again_what_waited(tmp_path):
    learner, player = opened(tmp_path / "a"), traffic.Player(LOGS)
    for place in player.open:
        player.step(learner, place, 400)
    kept = checkpoint(learner)
    waiting = len(learner.pending)
    learner.pending.close()
    again, memory = opened(tmp_path / "b", kept), traffic.Player(LOGS)
    assert len(again.pending) == waiting > 10
    in_memory = traffic.new_learner()
    for place in memory.open:
        memory.step(in_memory, place, 400)
    taken = [list(each.pending.take_before(2**60)) for each in (again, in_memory)]
    assert [each.prediction_id for each in taken[0]] == [each.prediction_id for each in taken[1]]
    assert [each.features for each in taken[0] if each.label is None] == [
        each.features for each in taken[1] if each.label is None
    ]
    again.pending.close()


def test_other_features_are_read_again_by_name(tmp_path):
    learner, player = opened(tmp_path / "a"), traffic.Player(LOGS)
    for place in player.open:
        player.step(learner, place, 400)
    kept = checkpoint(learner)
    waiting = len(learner.pending)
    learner.pending.close()
    again = opened(tmp_path / "a", kept, names=("new", "colour", "x"))
    assert len(again.pending) == waiting
    for entry in again.pending.take_before(2**60):
        assert entry.features == [] or (entry.features[0], type(entry.features[1])) == (None, str)
    again.pending.close()


@pytest.mark.parametrize("part", ["names", "labels"])
def test_what_is_on_disk_is_out_of_date_when_features_or_labels_change(tmp_path, part):
    learner, player = opened(tmp_path / "a"), traffic.Player(LOGS)
    for place in player.open:
        player.step(learner, place, 400)
    state = CHECKPOINTS.decode(checkpoint(learner), "m", "m.labels")
    learner.pending.close()
    assert state.on_disk.store
    if part == "labels":
        state.basis[learner_basis.LABELS] = "another"
    names = ["colour", "x"] if part == "names" else list(traffic.NAMES)
    learner_basis.fit(state, traffic.declaration(), names)
    assert state.on_disk.store == ""
    assert msgspec.structs.asdict(state.on_disk)["points"]
