"""The places of a subject: which topics, models and files belong to it."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from services.operations.erasure import places
from services.operations.erasure.places import World
from services.runtime.settings import Settings
from tests.unit.operations.erasure import subjects


class Holdings:
    """Kafka, with the committed offset of scoring."""

    def __init__(self, committed: int | None = None) -> None:
        self._committed = committed

    def committed(self, group: str) -> dict[Any, int]:
        from kafka import TopicPartition

        assert group == "driftline.scoring.tips"
        return {} if self._committed is None else {TopicPartition("tips.asked", 0): self._committed}


def world(tmp_path: Path, committed: int | None = None, *words: str) -> World:
    chosen: Any = Holdings(committed)
    words = words or ("customer", "ada")
    settings = Settings(_env_file=None, home=tmp_path)
    models, matcher = subjects.MODELS, subjects.matcher(*words)
    return World(settings, subjects.PLAN, models, subjects.of(*words), matcher, chosen, None)


def test_only_requests_that_name_the_join_keys_are_linked(tmp_path: Path) -> None:
    assert world(tmp_path).linked_models == ["tips"]
    assert world(tmp_path, None, "desk", "7").linked_models == []
    assert [name for name, _ in world(tmp_path).archived_topics()] == [
        "clicks", "rain.asked", "rain.tips", "tips.asked", "tips.tips", "weather",
        "driftline.predictions.tips", "driftline.outcomes.tips",
    ]  # fmt: skip


def test_requests_are_the_last_place_because_they_lead_to_the_others(tmp_path: Path) -> None:
    names = [place.name for place in places.of(world(tmp_path))]
    assert names[-1] == "archive: events"
    assert names[-3:-1] == ["archive: outcomes", "archive: predictions"]


def test_requests_after_the_committed_offset_are_unanswered(tmp_path: Path) -> None:
    requests = [("tips.asked", 0, 4), ("tips.asked", 0, 5), ("tips.asked", 1, 0)]
    assert places.unanswered(world(tmp_path, 5), requests) == 2
    assert places.unanswered(world(tmp_path, 9), requests[:2]) == 0
    assert places.unanswered(world(tmp_path), requests) == 0, "no scoring process has read the topic"


def test_run_folders_and_skew_checks_with_a_request_are_removed(tmp_path: Path) -> None:
    found = world(tmp_path)
    found.matcher.note_request("tips.asked", b'{"ride": "r1", "user": "ada"}')
    for run, ride in (("own", "r1"), ("other", "r2")):
        (folder := tmp_path / "runs" / "tips" / run).mkdir(parents=True)
        pq.write_table(pa.table({"prediction_id": [ride]}), folder / "data.parquet")
    (tmp_path / "skew").mkdir()
    (tmp_path / "skew" / "tips.json").write_text('{"prediction_id":"r1"}', encoding="utf-8")
    place = next(each for each in places.of(found) if each.name == "run folders")
    assert place.find() == 2
    place.erase()
    assert place.find() == 0
    assert (tmp_path / "runs" / "tips" / "other").exists()
