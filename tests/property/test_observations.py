"""Laws of the newest observation: equal to the definition, independent of the order, never a later one."""

import random
from unittest import mock

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streams import observations
from streams.observations import Observation, Observations, StoredObservations

SLACK_MS = 500
observed = st.builds(
    Observation, st.integers(0, 2000), st.integers(0, 3), st.integers(0, 50), st.binary(max_size=4)
)
histories = st.lists(
    observed, max_size=30, unique_by=lambda entry: (entry.source_partition, entry.source_offset)
)


def state_of(history: list[Observation]) -> Observations:
    state = Observations()
    for entry in history:
        state.add(*entry)
    return state


@given(histories, st.lists(st.integers(-100, 2500), min_size=1, max_size=6), st.sampled_from([0, 100, 1000]))
def test_found_is_the_newest_not_later_and_not_older_than_the_time_to_live(
    history: list[Observation], query_times_ms: list[int], ttl_ms: int
) -> None:
    stored = StoredObservations(state_of(history).to_bytes())
    positions, beyond = stored.find(np.array(query_times_ms, dtype=np.int64), ttl_ms)
    for time_ms, position in zip(query_times_ms, positions, strict=True):
        known = [
            e
            for e in history
            if e.event_time_ms <= time_ms and (not ttl_ms or time_ms - e.event_time_ms <= ttl_ms)
        ]
        newest = max(known, default=None)
        assert (stored.row(int(position)) if position >= 0 else None) == (newest.row if newest else None)
    assert not beyond.any()


@given(histories, st.randoms(use_true_random=False), st.integers(1, 5))
def test_order_never_changes_a_byte(
    history: list[Observation], rng: random.Random, written_every: int
) -> None:
    with (
        mock.patch.object(observations, "OBSERVATIONS_MAX", 5),
        mock.patch.object(observations, "SLACK_MS", SLACK_MS),
    ):
        state = Observations()
        for number, entry in enumerate(rng.sample(history, len(history))):
            state.add(*entry)
            if number % written_every == 0:
                state = Observations.from_bytes(state.to_bytes())
        assert state.to_bytes() == state_of(history).to_bytes()
        assert len(state) <= 5


@given(histories | histories.map(sorted), st.integers(1, 5))
def test_many_at_once_equal_one_after_the_other(history: list[Observation], at_once: int) -> None:
    with (
        mock.patch.object(observations, "OBSERVATIONS_MAX", 5),
        mock.patch.object(observations, "SLACK_MS", SLACK_MS),
    ):
        one_by_one, together = Observations(), Observations()
        for start in range(0, len(history), at_once):
            part = history[start : start + at_once]
            together.add_all(*map(list, zip(*part, strict=True)))
            for entry in part:
                one_by_one.add(*entry)
            assert together.to_bytes() == one_by_one.to_bytes()


@given(histories.filter(bool), st.lists(st.integers(0, 2500), min_size=1, max_size=6))
def test_a_time_within_the_slack_has_a_value_and_an_older_one_is_beyond(
    history: list[Observation], query_times_ms: list[int]
) -> None:
    with mock.patch.object(observations, "SLACK_MS", SLACK_MS):
        stored = StoredObservations(state_of(history).to_bytes())
        positions, beyond = stored.find(np.array(query_times_ms, dtype=np.int64), 0)
    newest_ms = max(entry.event_time_ms for entry in history)
    for time_ms, position, too_old in zip(query_times_ms, positions, beyond, strict=True):
        assert too_old == (time_ms < newest_ms - SLACK_MS)
        known = max((e for e in history if e.event_time_ms <= time_ms), default=None)
        expected = None if too_old or known is None else known.row
        assert (stored.row(int(position)) if position >= 0 else None) == expected
