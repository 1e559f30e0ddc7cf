"""kill -9 of the learning process: every published model is byte for byte as if nothing had happened."""

import contextlib
import functools
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from services.learning import arms_update
from services.model_registry import models_topic, traffic_split
from services.monitoring import pending_restore
from services.operations.models import arm_changes
from services.runtime.declaration_file import load_all
from services.runtime.settings import Settings
from services.runtime.topic_creation import ensure_topics
from services.scoring.river_model import learned_version_loader
from streams import records
from tests.online_learning import (
    PIECES,
    TRAINING,
    changes,
    published,
    send,
    wait_for_watermark,
    with_model,
)
from tests.processes import Process
from tests.unit.learning import traffic
from tests.unit.learning.traffic import HOUR_MS, START_MS
from tests.waiting import until

HOURS = 40
LEARNING = traffic.document()["learning"] | {"reference": {"rows": 1000}}
"""Its rows are collected while processes are killed, and complete long before the end."""


@pytest.fixture
def local(kafka: str, valkey: str, http_ports: dict[str, int], tmp_path: Path, unique_name: str) -> Settings:
    """One model that learns, with an empty feature service and topics of its own."""
    settings = Settings().model_copy(
        update={"broker": kafka, "redis_url": valkey, "home": tmp_path / "home", **http_ports}
    )
    return with_model(settings, tmp_path / "models", unique_name, LEARNING)


WITH_DISK = """
from services.monitoring import pending_predictions
from services.operations import cli

pending_predictions.IN_MEMORY_MAX = 50
cli.main()
"""


@pytest.mark.parametrize("on_disk", [False, True], ids=["in memory", "on disk"])
def test_killed_learning_process_repeats_itself_byte_for_byte(local, unique_name, tmp_path, on_disk):
    """Killed with work behind its checkpoint, right after its start, and while it reads."""
    logs = traffic.traffic(HOURS, seed=9, a_hour=300, name=unique_name)
    learner = traffic.new_learner(name=unique_name, learning=LEARNING)
    straight = traffic.play(learner, logs)
    expected = {each.version: each for each in traffic.published(straight)}

    command = (sys.executable, "-c", WITH_DISK, "learning") if on_disk else None
    with Process("learning", local, log=tmp_path / "learning.log", command=command) as learning:
        for number in range(PIECES):
            send(local, unique_name, logs, number)
            if number % 2 == 0:
                seen = len(published(local, unique_name))
                publishes = functools.partial(has_published_more, local, unique_name, seen)
                until(publishes, "a version is published", check=learning.check)
            if number == 2:
                until(lambda: unique_name in models_topic.read(local), "it has arms", check=learning.check)
            learning.kill()
            if number == 2:
                by_hand = give_arms(local, unique_name)
            learning.start()
        wait_for_watermark(local, unique_name, START_MS + (HOURS + 8) * HOUR_MS, learning)
        assert "learning.restored" in learning.output()
        assert learning.stop() == 0

    assert pending_restore.folder_of(local, "learning", unique_name).exists() == on_disk
    found: dict[int, records.LearnedModel] = {}
    for each in published(local, unique_name):
        assert found.setdefault(each.version, each) == each
    assert found == expected
    assert learner.reference is not None
    assert_arms_are_the_operator_s_and_each_version_s(
        local, unique_name, by_hand, straight, learner.reference
    )

    latest = max(expected)
    model = learned_version_loader(local)(unique_name, latest).model
    assert model.predict(traffic.columns([1.0, -1.0], ["red", "blue"])) == pytest.approx([8, -3], abs=1)
    with pytest.raises(LookupError, match="is not in the topic driftline"):
        learned_version_loader(local)(unique_name, latest + 1)


def test_workers_that_die_come_or_hang_learn_the_same(local, unique_name, tmp_path, http_ports):
    """Two workers share three models: one is killed and comes back, then one hangs past its session."""
    names = [unique_name, f"{unique_name}1", f"{unique_name}2"]
    for name in names[1:]:
        declare(local, name)
    logs = {name: traffic.traffic(HOURS, seed=9, a_hour=200, name=name) for name in names}
    ports = [http_ports[name] for name in ("learning_port", "features_port")]
    with contextlib.ExitStack() as stack:
        workers = first, second = [
            stack.enter_context(
                Process("learning", worker_settings(local, port), log=tmp_path / f"learning-{port}.log")
            )
            for port in ports
        ]

        def check() -> None:
            first.check()
            second.check()

        def send_all(*numbers: int) -> None:
            for number, name in itertools.product(numbers, names):
                send(local, name, logs[name], number)

        until(lambda: are_owned(workers, names), "the models are shared", check=check)
        send_all(0)
        until(lambda: all(published(local, name) for name in names), "versions are published", check=check)
        send_all(1)
        first.kill()
        send_all(2)
        until(lambda: are_owned([second], names), "one worker owns all", check=second.check)
        first.start()
        until(lambda: are_owned(workers, names), "the models are shared again", check=check)
        send_all(3)
        second.suspend()
        send_all(4)
        until(lambda: are_owned([first], names), "one worker owns all", check=first.check)
        second.resume()
        send_all(5)
        until(lambda: are_owned(workers, names), "the models are shared again", check=check)
        for name in names:
            wait_for_watermark(local, name, START_MS + (HOURS + 8) * HOUR_MS, first)
        assert "models.ownership_lost" in second.output()
        assert [worker.stop() for worker in workers] == [0, 0]

    for name in names:
        learner = traffic.new_learner(name=name, learning=LEARNING)
        straight = traffic.play(learner, logs[name])
        expected = {each.version: each for each in traffic.published(straight)}
        found: dict[int, records.LearnedModel] = {}
        for each in published(local, name):
            assert found.setdefault(each.version, each) == each
        assert found == expected
        assert learner.reference is not None
        assert [each for each, _ in itertools.groupby(changes(local, name))] == traffic.changes(
            straight, name, learner.reference
        )


def declare(local: Settings, name: str) -> None:
    folder = local.models / name
    folder.mkdir()
    (folder / "training.py").write_text(TRAINING)
    (folder / "model.yaml").write_text(traffic.as_yaml(name, learning=LEARNING))
    ensure_topics(local, load_all(local.models))


def worker_settings(local: Settings, port: int) -> Settings:
    return local.model_copy(update={"learning_port": port, "session_timeout_seconds": 3.0})


def are_owned(workers: Sequence[Process], names: Sequence[str]) -> bool:
    """Tell whether each model has one owner, and each worker has some."""
    owned = [worker.models() & set(names) for worker in workers]
    return all(owned) and sorted(itertools.chain(*owned)) == sorted(names)


def give_arms(local: Settings, name: str) -> records.ModelChanged:
    """Be an operator: give an older version a share and another a shadow, while the process is down."""
    latest = models_topic.read(local)[name]
    starts_ms = latest.arms[-1].effective_from_ms + HOUR_MS
    arms = arm_changes.with_share(
        latest.arms, "older", latest.arms[0].version, 2000, from_ms=starts_ms, segment={}
    )
    arms = arm_changes.with_shadow(arms, "quiet", latest.arms[-1].version, now_ms=starts_ms)
    change = arm_changes.make_change(
        name, latest, arms, reason="by hand", from_ms=starts_ms, now_ms=starts_ms
    )
    with models_topic.opened(local) as models:
        models.publish([change])
    return change


def assert_arms_are_the_operator_s_and_each_version_s(
    local: Settings,
    name: str,
    by_hand: records.ModelChanged,
    straight: list[Any],
    reference: records.Reference,
) -> None:
    """What follows the operator's change is made of it and of what was learned, whatever was killed."""
    found = changes(local, name)
    at = found.index(by_hand)
    learned = [each for step in straight for each in step.learned]
    later = arms_update.changes(name, traffic.first_ms(learned[0]), learned, by_hand, reference)
    assert found[at + 1 :] == later
    assert found[:at] == traffic.changes(straight, name, reference)[:at]
    assert (by_hand.reference, found[-1].reference) == (None, reference)
    assert [(arm.name, arm.weight) for arm in found[-1].arms if arm.name != "champion"] == [
        ("older", 2000),
        ("quiet", 0),
    ]
    traffic_split.check(found[-1].arms)


def has_published_more(local: Settings, name: str, seen: int) -> bool:
    return len(published(local, name)) > seen
