"""Slices: where they start and end, how they join, divide and are cut."""

import dataclasses

from faust.types import TP

from streams.slices import SliceCutter
from tests.unit.streams.test_batches import Record, slice_of


def test_slice_begins_where_the_one_before_it_ended_also_where_offsets_have_gaps():
    assert slice_of(7, 9).first_offset == 7
    assert dataclasses.replace(slice_of(7, 9), follows=5).first_offset == 5
    assert dataclasses.replace(slice_of(7, 9), follows=8).first_offset == 7  # of an assignment that is over


def test_joined_slices_tell_of_the_first_begin_and_the_last_end():
    """What follows what, and whether all has been fetched, stays true of the whole."""
    joined = dataclasses.replace(slice_of(7, 9), follows=5)
    joined.extend(dataclasses.replace(slice_of(12), follows=10, caught_up=True))
    assert (joined.first_offset, joined.next_offset, joined.caught_up) == (5, 13, True)


def test_halves_follow_each_other_and_the_second_ends_as_the_whole():
    whole = dataclasses.replace(slice_of(7, 9, 12), follows=5, caught_up=True, before=slice_of(4))
    first, second = whole.halves()
    assert [record.offset for record in first.records] == [7]
    assert (first.follows, first.caught_up, first.before) == (5, False, whole.before)
    assert [record.offset for record in second.records] == [9, 12]
    assert (second.follows, second.caught_up, second.before) == (8, True, None)
    first.ack()
    assert not whole.acked
    assert not second.acked


def test_defect_keeps_its_place_and_gives_its_reason():
    defect = dataclasses.replace(slice_of(7), follows=5).as_defect("defect: KeyError")
    assert (defect.follows, defect.next_offset, defect.defects) == (5, 8, {7: "defect: KeyError"})


def test_cutter_links_the_slices_of_a_partition():
    starts = []
    cutter = SliceCutter(lambda tp, offset: starts.append((tp, offset)))
    ends = {TP("t", 0): 9, TP("u", 0): None}
    fetched = {TP("t", 0): [Record(3), Record(5)], TP("u", 0): [Record(0)], TP("t", 1): []}
    ((first,), (other,)) = cutter.cut(fetched, ends.get)
    assert (first.follows, first.start, first.caught_up, other.caught_up) == (None, 3, False, True)
    assert (first.end, other.end) == (9, 0)
    ((second,),) = cutter.cut({TP("t", 0): [Record(8)]}, ends.get)
    assert (second.follows, second.start, second.caught_up) == (6, 6, True)
    assert starts == [(TP("t", 0), 3), (TP("u", 0), 0)]


def test_cutter_continues_at_an_offset_that_is_read_again():
    cutter = SliceCutter()
    cutter.cut({TP("t", 0): [Record(3)]}, lambda _tp: 9)
    cutter.restart(TP("t", 0), 2)
    ((again,),) = cutter.cut({TP("t", 0): [Record(3)]}, lambda _tp: 9)
    assert again.follows == 2
    cutter.clear()
    ((first,),) = cutter.cut({TP("t", 0): [Record(3)]}, lambda _tp: 9)
    assert first.follows is None
