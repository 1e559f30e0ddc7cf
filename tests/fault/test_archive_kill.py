"""kill -9 of the archive process: the tables hold each record exactly once."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka.admin import KafkaAdminClient, MemberToRemove
from kafka.errors import KafkaError

from services.archive.archiver import GROUP
from services.monitoring import inference_log
from streams import topics
from tests.flow.learning import PARTITIONS, World
from tests.waiting import until


@pytest.fixture
def world(kafka: str, tmp_path: Path) -> Iterator[World]:
    with World(kafka, "http://127.0.0.1:1", tmp_path) as made:  # MLflow is not needed
        yield made


def forget_members(broker: str) -> None:
    """End the sessions of killed members at once; the broker would wait for 15 s."""
    with (
        contextlib.closing(KafkaAdminClient(bootstrap_servers=broker)) as admin,
        contextlib.suppress(KafkaError),  # a member killed before it joined has no group
    ):
        members = admin.describe_groups([GROUP])[GROUP]["members"]
        admin.remove_group_members(GROUP, [MemberToRemove(member_id=one["member_id"]) for one in members])


@pytest.mark.parametrize("delay_seconds", [0.0, 0.3])
def test_killed_archive_writes_nothing_twice_and_loses_nothing(world: World, delay_seconds: float):
    """Kill it at two moments around its first commit, with a producer that repeats records in between."""
    model = world.model()
    rows = model.history(4000)
    model.send_rows(rows[:2000])
    model.request("hurry")  # so that the archive commits at once
    archive = world.start("archive")
    until((world.settings.home / "archive" / "outcomes").exists, "the archive creates its tables")
    time.sleep(delay_seconds)  # the moment of the kill varies
    archive.kill()
    forget_members(world.settings.broker)

    model.send_rows(rows[1500:])
    model.request("hurry-again")
    archive = world.start("archive")

    def complete() -> bool:
        tables = (("predictions", topics.predictions), ("outcomes", topics.outcomes))
        for table, name in tables:
            topic = name(model.name)
            positions = inference_log.positions(world.settings, table, {topic: range(PARTITIONS)})[topic]
            if list(positions.values()) != model.offsets[topic]:
                return False
        return True

    until(complete, "everything is archived")
    assert archive.stop() == 0
    with inference_log.connect(world.settings) as log:
        for table in ("predictions", "outcomes"):
            counts = log.execute(f"SELECT count(*), count(DISTINCT prediction_id) FROM {table}").fetchone()
            assert counts == (4000, 4000), table
