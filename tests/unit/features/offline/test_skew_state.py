"""The state between passes: its file, and when it is replaced."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from services.feature_store.plan import FeaturePlan, ServiceFeature, ServicePlan
from services.features.offline.skew_state import SkewState, SkewStateFile, definition_digest
from services.features.offline.watermark_index import IndexEntry
from tests.unit.features.fakes import BY_ID

SERVICE = FeaturePlan("p", (BY_ID,), {"all": (ServiceFeature("by_id", "total"),)}).service("all")


@dataclasses.dataclass
class FakeArchive:
    """Holds predictions up to some offset of each partition."""

    positions: dict[int, int]

    def prediction_partitions(self, model: str) -> list[int]:
        return list(self.positions)

    def position(self, table: str, topic: str, partition: int) -> int:
        return self.positions.get(partition, 0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "m.json"


def load(path: Path, positions: dict[int, int], service: ServicePlan = SERVICE) -> SkewState:
    archive: Any = FakeArchive(positions)
    return SkewStateFile(path, "m", service).load(archive)


def saved(path: Path) -> SkewState:
    """Save a state that has compared up to offset 5, and return it."""
    state = load(path, {})
    state.report.checked = 3
    state.next_offsets = {0: 5}
    state.index = {"orders": {0: [IndexEntry(7, 8)]}}
    SkewStateFile(path, "m", SERVICE).save(state)
    return state


def changed(**attributes: Any) -> ServicePlan:
    return dataclasses.replace(SERVICE, views=(dataclasses.replace(BY_ID, **attributes),))


def test_first_state_is_empty_and_lists_the_features_of_the_service(path: Path) -> None:
    state = load(path, {0: 9})
    assert (state.next_offsets, state.index, state.report.model) == ({}, {}, "m")
    assert [(item.view, item.feature) for item in state.report.features] == [("by_id", "total")]


def test_saved_state_is_loaded_and_its_file_keeps_the_name_marks(path: Path) -> None:
    state = saved(path)
    assert load(path, {0: 5}) == state
    assert json.loads(path.read_bytes())["marks"] == {"orders": {"0": [[7, 8]]}}
    assert [found.name for found in path.parent.iterdir()] == ["m.json"], "no temporary file is left"


def test_archive_that_is_shorter_than_before_begins_a_new_state(path: Path) -> None:
    saved(path)
    state = load(path, {0: 4})
    assert (state.report.checked, state.next_offsets, state.index) == (0, {}, {})


def test_changed_definition_begins_a_new_state_after_the_archived_predictions(path: Path) -> None:
    saved(path)
    state = load(path, {0: 9, 1: 4}, changed(hop_ms=20_000))
    assert (state.report.checked, state.next_offsets) == (0, {0: 9, 1: 4})


def test_digest_depends_on_the_views_and_not_on_where_their_files_are() -> None:
    digest = definition_digest(SERVICE)
    assert definition_digest(changed(batch_file=None)) == digest
    assert definition_digest(changed(ttl_ms=9)) != digest
