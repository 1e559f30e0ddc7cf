"""One broken table stops no other, and a topic that is recreated is archived from its start."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from deltalake import DeltaTable

from services.monitoring import inference_log
from streams import topics
from tests.flow.learning import World
from tests.processes import Process
from tests.recreation import recreate
from tests.waiting import LIVENESS_SECONDS, until

TABLES = ("predictions", "outcomes")


@pytest.fixture
def world(kafka: str, tmp_path: Path) -> Iterator[World]:
    with World(kafka, "http://127.0.0.1:1", tmp_path) as made:  # MLflow is not needed
        yield made


def archived(world: World, table: str) -> tuple[int, int]:
    """Return the numbers of rows and of different predictions in a table, whatever the other ones are."""
    path = inference_log.path(world.settings, table)
    if not DeltaTable.is_deltatable(path):
        return 0, 0
    with inference_log.connect(world.settings, {table: DeltaTable(path)}) as log:
        counts = f"SELECT count(*), count(DISTINCT prediction_id) FROM {table}"
        rows, distinct = log.execute(counts).fetchall()[0]
    return rows, distinct


def wait_for(world: World, archive: Process, rows: int, *tables: str) -> None:
    for table in tables:
        until(
            lambda table=table: archived(world, table)[1] >= rows,  # type: ignore[misc]
            f"{rows} rows are in {table}",
            check=archive.check,
        )


def set_aside(archive: Process) -> dict[str, str]:
    answer = httpx.get(f"{archive.url}/health/ready", timeout=LIVENESS_SECONDS)
    assert answer.status_code in (200, 503)
    found: dict[str, str] = answer.json().get("tables_set_aside", {})
    return found


def test_a_broken_table_stops_no_other_and_gets_all_its_rows_once_it_is_mended(world: World) -> None:
    model = world.model()
    rows = model.history(3000)
    model.send_rows(rows[:1000])
    model.request("first")
    archive = world.start("archive")
    wait_for(world, archive, 1000, *TABLES)

    folder = world.settings.home / "archive" / "outcomes" / "_delta_log"
    last = max(int(path.stem) for path in folder.glob("*.json"))
    broken = folder / f"{last + 1:020}.json"
    broken.write_text("{garbage")
    model.send_rows(rows[1000:2000])
    model.request("second")
    wait_for(world, archive, 2000, "predictions")
    until(lambda: "outcomes" in set_aside(archive), "the table is set aside", check=archive.check)
    assert archive.is_ready(LIVENESS_SECONDS)
    assert set_aside(archive)["outcomes"].startswith("table outcomes: DeltaError")

    model.send_rows(rows[2000:])
    model.request("third")
    wait_for(world, archive, 3000, "predictions")
    broken.unlink()
    wait_for(world, archive, 3000, *TABLES)
    until(lambda: not set_aside(archive), "the table is archived again", check=archive.check)
    assert archive.stop() == 0
    assert [archived(world, table) for table in TABLES] == [(3000, 3000)] * 2


@pytest.mark.parametrize(("first", "second"), [(2000, 600), (600, 2000)])
@pytest.mark.parametrize("runs", [True, False], ids=["running", "stopped"])
def test_a_recreated_topic_is_archived_from_its_start(
    world: World, first: int, second: int, *, runs: bool
) -> None:
    """The new topic is shorter or longer than the old one was."""
    model = world.model()
    rows = model.history(first + second)
    model.send_rows(rows[:first])
    model.request("first")
    archive = world.start("archive")
    wait_for(world, archive, first, *TABLES)
    if not runs:
        assert archive.stop() == 0
    recreate(world.settings, [topics.predictions(model.name), topics.outcomes(model.name)])
    model.send_rows(rows[first:])
    if not runs:
        archive.start()
    model.request("second")
    wait_for(world, archive, first + second, *TABLES)
    assert archive.stop() == 0
    assert [archived(world, table) for table in TABLES] == [(first + second,) * 2] * 2
