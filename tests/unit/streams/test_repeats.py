"""Each record is taken once, whatever was written again and whatever others have written in between."""

import copy
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import records
from streams.repeats import NEWEST_MAX, SOURCES_MAX, RepeatFilter


@given(st.lists(st.integers(0, 30), max_size=8))
def test_repeat_filter_passes_each_offset_once_however_often_the_source_goes_back(restarts):
    """A producer that crashes goes back to an earlier offset and repeats what follows, in order."""
    written = list(range(31))
    for restart in restarts:
        written += range(restart, 31)
    repeats = RepeatFilter()
    assert [offset for offset in written if not repeats.is_repeat(0, offset)] == list(range(31))


def test_repeat_filter_keeps_partitions_apart():
    repeats = RepeatFilter({0: 5})
    assert repeats.is_repeat(0, 5)
    assert not repeats.is_repeat(1, 5)
    assert not repeats.is_repeat(0, 6)


def test_repeat_filter_keeps_source_topics_apart():
    repeats = RepeatFilter()
    assert [repeats.is_repeat(0, offset, "old") for offset in (0, 1, 1)] == [False, False, True]
    assert [repeats.is_repeat(0, offset, "new") for offset in (0, 0)] == [False, True]
    assert repeats.is_repeat(0, 1, "old")
    restored = RepeatFilter(repeats.last_offsets, repeats.by_source, repeats.newest)
    assert restored.is_repeat(0, 0, "new")
    assert not restored.is_repeat(0, 1, "new")


def test_records_that_name_no_topic_are_of_the_first_one_that_is_named():
    repeats = RepeatFilter({0: 5})
    assert repeats.is_repeat(0, 5, "first")
    assert not repeats.is_repeat(0, 6, "first")
    assert not repeats.is_repeat(0, 0, "second")


def test_repeat_filter_remembers_a_bounded_number_of_topics():
    repeats = RepeatFilter()
    for number in range(2 * SOURCES_MAX):
        assert not repeats.is_repeat(0, 0, str(number))
    assert len(repeats.by_source) == SOURCES_MAX


def test_what_was_asked_over_http_is_never_a_repeat():
    """Neither in itself, nor for what has a source."""
    repeats = RepeatFilter({records.ASKED_OVER_HTTP: records.ASKED_OVER_HTTP})
    http = (records.ASKED_OVER_HTTP, records.ASKED_OVER_HTTP)
    assert not any(repeats.is_repeat(*place) for place in (http, http, (0, 0), http))
    assert repeats.is_repeat(0, 0)


@pytest.mark.parametrize("forged", [2**62, 10**6, 105])
@pytest.mark.parametrize("count", [1, NEWEST_MAX - 1])
def test_an_offset_that_nobody_could_have_written_makes_no_others_repeats(forged: int, count: int) -> None:
    repeats = RepeatFilter()
    honest = list(range(0, 200, 2))
    assert not any(repeats.is_repeat(0, offset) for offset in honest[:50])
    assert not any(repeats.is_repeat(0, forged + 2 * number) for number in range(count))
    assert not any(repeats.is_repeat(0, offset) for offset in honest[50:])
    assert all(repeats.is_repeat(0, offset) for offset in honest)


@given(st.lists(st.integers(0, 60), max_size=150), st.integers(0, 150))
def test_a_restart_changes_nothing(offsets: list[int], at: int) -> None:
    """Neither from a snapshot nor, as in the archive, from the highest offsets that were taken."""
    whole, first = RepeatFilter(), RepeatFilter()
    taken = [not whole.is_repeat(0, offset, "s") for offset in offsets]
    before = [not first.is_repeat(0, offset, "s") for offset in offsets[:at]]
    seen = sorted(offset for offset, is_new in zip(offsets, before, strict=False) if is_new)
    restored = RepeatFilter(*copy.deepcopy((first.last_offsets, first.by_source, first.newest)))
    archived = RepeatFilter.after({"s": {0: seen[-NEWEST_MAX - 1 :]}} if seen else {})
    for again in (restored, archived):
        assert before + [not again.is_repeat(0, offset, "s") for offset in offsets[at:]] == taken


def test_a_snapshot_of_an_older_version_says_up_to_where_all_were_seen() -> None:
    repeats = RepeatFilter({0: 5}, {"s": {0: 7}})
    assert [repeats.is_repeat(0, offset, "s") for offset in (6, 7, 8, 8)] == [True, True, False, True]


def test_records_of_many_forged_topics_do_not_make_the_honest_one_forgotten() -> None:
    repeats, chance = RepeatFilter(), random.Random(1)
    for offset in range(100):
        assert not repeats.is_repeat(0, offset, "honest")
        for _ in range(chance.randrange(SOURCES_MAX)):
            repeats.is_repeat(0, 0, f"forged {chance.random()}")
    assert all(repeats.is_repeat(0, offset, "honest") for offset in range(100))
