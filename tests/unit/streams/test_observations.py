"""The history of one entity: examples, and what is no such history. For its laws see tests/property."""

import numpy as np
import pytest

from streams.observations import Observation, Observations, StoredObservations
from streams.stored_arrays import StoredStateError


def history_of(*observations: tuple[int, int, int, bytes]) -> Observations:
    state = Observations()
    for observation in observations:
        state.add(*observation)
    return state


def test_a_correction_replaces_the_observation_of_the_same_time() -> None:
    state = history_of((5, 0, 1, b"wrong"), (9, 0, 2, b"later"), (5, 0, 3, b"right"))
    stored = StoredObservations(state.to_bytes())
    positions, _ = stored.find(np.array([5, 8, 9]), ttl_ms=0)
    assert [stored.row(position) for position in positions.tolist()] == [b"right", b"right", b"later"]
    assert state.newest == Observation(9, 0, 2, b"later")


def test_an_older_offset_corrects_nothing() -> None:
    state = history_of((5, 0, 3, b"right"), (5, 0, 1, b"wrong"))
    assert state.newest.row == b"right"


def test_nothing_is_found_before_the_first_observation_and_after_the_ttl() -> None:
    stored = StoredObservations(history_of((5, 0, 0, b"x")).to_bytes())
    positions, beyond = stored.find(np.array([4, 5, 15, 16]), ttl_ms=10)
    assert positions.tolist() == [-1, 0, 0, -1]
    assert not beyond.any()


def test_nothing_is_found_in_an_empty_history() -> None:
    stored = StoredObservations(Observations().to_bytes())
    assert stored.find(np.array([4]), ttl_ms=0)[0].tolist() == [-1]


RAW = history_of((5, 0, 0, b"x")).to_bytes()


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "0 bytes are not observations"),
        (b"\x09" + RAW[1:], "format 9; only format 1 can be read"),
        (RAW[:9], "9 bytes are not observations"),
    ],
    ids=["empty", "other format", "cut off"],
)
def test_bytes_of_something_else_are_refused(raw: bytes, reason: str) -> None:
    with pytest.raises(StoredStateError, match=reason):
        StoredObservations(raw)
