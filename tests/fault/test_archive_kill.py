"""kill -9 of the archive process: the tables hold each record exactly once."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services import inference_log
from streams import topics
from tests.flow.learning import PARTITIONS, World, until


@pytest.fixture
def world(kafka: str, tmp_path: Path) -> Iterator[World]:
    with World(kafka, "http://127.0.0.1:1", tmp_path) as made:  # MLflow is not needed
        yield made


@pytest.mark.parametrize("delay_seconds", [0.0, 0.3])
def test_killed_archive_writes_nothing_twice_and_loses_nothing(world: World, delay_seconds: float):
    """Killed at two moments around its first commit, with a producer that repeats itself in between."""
    model = world.model()
    rows = model.history(4000)
    model.send_rows(rows[:2000])
    model.request("hurry")  # so that it commits at once
    archive = world.start("archive")
    until((world.settings.home / "archive" / "outcomes").exists, "the archive creates its tables")
    time.sleep(delay_seconds)  # the moment of the blow is what varies
    archive.stop(signal.SIGKILL)

    model.send_rows(rows[1500:])
    model.request("hurry-again")
    archive = world.start("archive")

    def complete() -> bool:
        tables = (("predictions", topics.predictions), ("outcomes", topics.outcomes))
        for table, name in tables:
            topic = name(model.name)
            held = inference_log.positions(world.settings, table, {topic: range(PARTITIONS)})[topic]
            if list(held.values()) != model.offsets[topic]:
                return False
        return True

    until(complete, "everything is archived")
    assert archive.stop() == 0
    with inference_log.connect(world.settings) as log:
        for table in ("predictions", "outcomes"):
            counts = log.execute(f"SELECT count(*), count(DISTINCT prediction_id) FROM {table}").fetchone()
            assert counts == (4000, 4000), table
