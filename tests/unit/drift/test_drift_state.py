"""The state with which the drift process starts."""

import pytest

from services.drift.drift_state import DriftStateError, starting_state
from tests.unit.drift import scenario


def test_snapshot_with_more_partitions_than_its_topic_is_an_error():
    state = scenario.new_engine(partitions=2).state()
    with pytest.raises(DriftStateError, match="2 partitions, its topic 1"):
        starting_state(scenario.declaration(), 1, 1, state)


def test_added_partitions_are_read_from_their_beginning():
    state = scenario.new_engine(partitions=1).state()
    grown = starting_state(scenario.declaration(), 2, 1, state)
    assert [at.offset for at in (*grown.predictions, *grown.labels)] == [0, 0, 0]
