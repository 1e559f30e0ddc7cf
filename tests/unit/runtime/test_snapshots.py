"""Snapshots are read strictly."""

import zlib

import msgspec
import pytest

from services.drift.monitored_model import SNAPSHOTS
from services.runtime.snapshots import SnapshotError, SnapshotPace
from tests.unit.drift import scenario


@pytest.fixture
def state():
    engine = scenario.new_engine(partitions=2)
    scenario.play(engine, scenario.traffic(5))
    return engine.state()


def test_decode_of_encode_is_the_state(state):
    assert SNAPSHOTS.decode(SNAPSHOTS.encode("m", "labels", state), "m", "labels") == state


def test_damaged_snapshot_is_an_error(state):
    raw = SNAPSHOTS.encode("m", "labels", state)
    with pytest.raises(SnapshotError, match="the snapshot of 'm' cannot be read"):
        SNAPSHOTS.decode(raw[:-10], "m", "labels")


def test_snapshot_of_another_label_topic_is_refused(state):
    raw = SNAPSHOTS.encode("m", "labels", state)
    with pytest.raises(SnapshotError, match="label topic labels, but model 'm' with label topic others"):
        SNAPSHOTS.decode(raw, "m", "others")


def test_snapshot_of_another_format_tells_what_to_do():
    raw = zlib.compress(msgspec.msgpack.encode({"format": 99, "else": "entirely"}))
    with pytest.raises(SnapshotError, match="has format 99, this version reads 3: run the version"):
        SNAPSHOTS.decode(raw, "m", "labels")


def pace(*windows_closed, cost_seconds=0.0):
    """Return the pace after a snapshot at 100 s and then steps that closed so many windows."""
    made = SnapshotPace()
    made.taken(100.0 - cost_seconds, 100.0)
    for each in windows_closed:
        made.note(each)
    return made


def test_nothing_new_needs_no_snapshot():
    assert not pace().due(10_000)


def test_snapshot_is_due_soon_after_a_window_has_closed():
    assert not pace(1).due(101)
    assert pace(1).due(102)


def test_snapshot_is_due_in_time_within_a_long_window():
    assert not pace(0).due(114)
    assert pace(0).due(115)


def test_large_state_is_kept_less_often():
    assert not pace(1, cost_seconds=3).due(199)
    assert pace(1, cost_seconds=3).due(200)
