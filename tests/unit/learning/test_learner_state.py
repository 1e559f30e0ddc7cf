"""A fresh state has an entry for each partition; a checkpoint of other topics is refused."""

import pytest

from services.learning.learner_state import LearnerState, LearnerStateError, Lesson, fresh_state
from services.learning.session import CHECKPOINTS
from streams.inputs import Resume


def test_fresh_state_begins_every_partition():
    state = fresh_state("m", 2, 3)
    assert (state.predictions, state.labels) == ([Resume()] * 2, [Resume()] * 3)


def test_partitions_added_since_the_checkpoint_begin_at_their_start():
    state = fresh_state("m", 2, 1, LearnerState(predictions=[Resume(offset=7)], labels=[Resume(offset=8)]))
    assert [at.offset for at in state.predictions] == [7, Resume().offset]
    assert [at.offset for at in state.labels] == [8]


def test_checkpoint_of_a_topic_with_more_partitions_is_refused():
    with pytest.raises(LearnerStateError, match="m: the checkpoint has 2 partitions, but its topic has 1"):
        fresh_state("m", 1, 1, LearnerState(predictions=[Resume(), Resume()]))


def test_states_do_not_share_their_lists():
    fresh_state("m", 1, 1).lessons.append(Lesson(1, "p", 1.0, []))
    assert fresh_state("m", 1, 1).lessons == []


def test_checkpoint_keeps_the_state():
    state = fresh_state("m", 1, 1)
    state.lessons, state.losses, state.first_ms = [Lesson(1, "p", 1.0, [2.0, "x", None])], (3, 4.5), 0
    assert CHECKPOINTS.decode(CHECKPOINTS.encode("m", "labels", state), "m", "labels") == state
