"""Which letters are meant, how they are shown, and which of them were replayed."""

import types
from typing import Any

import pytest

from services.operations.dead_letters import letters
from services.operations.dead_letters.letters import LetterFilter, LetterSummary, ReplayProgress
from streams import codec, records

SECOND_MS = 1000


def letter(offset: int = 7, **changes) -> records.DeadLetter:
    given: dict[str, Any] = {
        "service": "scoring",
        "reason": "bad",
        "topic": "shop.orders",
        "partition": 2,
        "offset": offset,
        "key": b"k",
        "value": b"{",
        "failed_time_ms": 60 * SECOND_MS,
    }
    return records.DeadLetter(**(given | changes))


def mark(state: Any, *offsets: int, **changes) -> records.ReplayMark:
    given: dict[str, Any] = {"topic": "shop.orders", "partition": 2, "begun_ms": 5, "end_offset": 90}
    return records.ReplayMark(state=state, offsets=list(offsets), **(given | changes))


@pytest.mark.parametrize(
    ("chosen", "admitted"),
    [
        (LetterFilter(), True),
        (LetterFilter(service="scoring", topic="shop.orders", since_ms=60 * SECOND_MS), True),
        (LetterFilter(service="features"), False),
        (LetterFilter(topic="shop.labels"), False),
        (LetterFilter(since_ms=60 * SECOND_MS + 1), False),
    ],
)
def test_letter_is_admitted_when_every_given_filter_agrees(chosen, admitted):
    """What is not given does not matter; the time is that of the failure and inclusive."""
    assert chosen.admits(letter()) is admitted


@pytest.mark.parametrize(("text", "back_ms"), [("90s", 90_000), ("30m", 1_800_000), ("7d", 604_800_000)])
def test_since_counts_back_from_now(text: str, back_ms: int):
    """Whole numbers with one unit."""
    assert letters.since_ms(text, 10**12) == 10**12 - back_ms


@pytest.mark.parametrize("text", ["2", "h", "2 weeks", "-1h", "1.5h", ""])
def test_since_that_cannot_be_read_says_what_can_be_written(text: str):
    """No guess is made."""
    with pytest.raises(ValueError, match="s, m, h, d"):
        letters.since_ms(text, 0)


def test_summary_keeps_the_newest_rows_and_counts_all():
    """Memory is bounded by the rows; the counts are of every letter."""
    summary = LetterSummary(2)
    for offset in range(5):
        summary.add(100 + offset, letter(offset, reason=f"bad {offset % 2}"))
    assert [row.source for row in summary.rows(ReplayProgress())] == ["shop.orders/2/3", "shop.orders/2/4"]
    assert summary.reasons == {"bad 0": 3, "bad 1": 2}


def test_more_reasons_than_are_kept_are_counted_together():
    """A producer that puts an id into each fault does not fill the memory."""
    summary = LetterSummary(1)
    for offset in range(letters.REASONS_MAX + 5):
        summary.add(offset, letter(offset, reason=f"bad {offset}"))
    assert summary.reasons[letters.OTHER_REASONS] == 5
    assert summary.reasons.total() == letters.REASONS_MAX + 5


def test_lines_show_the_place_the_start_of_the_value_and_the_counts_by_reason():
    """Bytes that are no text are escaped, and long values cut."""
    summary, progress = LetterSummary(5), ReplayProgress()
    summary.add(1, letter(1, key=None, value=b"\xff" + b"x" * 500))
    summary.add(2, letter(2, reason="worse", headers=[(codec.REPLAYS_HEADER, b"2")]))
    progress.add(mark("arrived", 1))
    shown = letters.lines(summary.rows(progress), summary.reasons)
    assert shown[0] == "1970-01-01T00:01:00+00:00  scoring  shop.orders/2/1  bad  replayed since"
    assert shown[1] == f"    key None  value \\xff{'x' * (letters.TEXT_CHARS_MAX - 4)}…"
    assert shown[2].endswith("worse  came back 2 times")
    assert shown[4:] == ["2 letters, 2 shown", "       1  bad", "       1  worse"]


def test_lines_name_the_commonest_reasons_only():
    """The rest is told by its number."""
    reasons = {f"bad {number:03}": 1 for number in range(letters.REASONS_SHOWN_MAX + 3)}
    shown = letters.lines([], reasons | {"worst": 9})
    assert shown[1] == "       9  worst"
    assert len(shown) == 1 + letters.REASONS_SHOWN_MAX + 1
    assert "and 4 more reasons" in shown[-1]


def test_document_holds_the_same_as_the_lines():
    """For programs: plain values under stable names."""
    summary = LetterSummary(5)
    summary.add(1, letter(1))
    found = letters.document(summary.rows(ReplayProgress()), summary.reasons)
    assert (found["letters_total"], found["reasons"]) == (1, {"bad": 1})
    assert found["letters"][0] | {"source": "shop.orders/2/1", "value": "{"} == found["letters"][0]


def test_replayed_record_is_the_failed_one_with_its_headers_and_where_it_comes_from():
    """Headers of the application stay; ours are replaced, not repeated."""
    key, value, first = letters.record_of(letter(headers=[("traceparent", b"00-x")]))
    assert (key, value) == (b"k", b"{")
    assert first == [
        ("traceparent", b"00-x"),
        ("driftline-replayed-from", b"shop.orders/2/7"),
        ("driftline-replays", b"1"),
    ]
    _, _, second = letters.record_of(letter(offset=9, headers=first))
    assert letters.replayed_from(second) == ("shop.orders", 2, 9)
    assert letters.replays_of(second) == 2
    assert len(second) == 3


def test_record_without_our_headers_is_no_replay():
    """Whatever else it carries."""
    assert letters.replayed_from([("traceparent", b"00-x")]) is None
    assert letters.replays_of([]) == 0


@pytest.mark.parametrize("value", [None, b"", b"x", b"a/b/c", b"topic/1/-2", b"9" * 5000, b"\xff/1/2"])
def test_headers_of_somebody_else_under_our_names_are_no_replay(value: bytes | None):
    """Nothing is raised: the letter can be listed and replayed."""
    assert letters.replayed_from([(codec.REPLAYED_FROM_HEADER, value)]) is None
    assert letters.replays_of([(codec.REPLAYS_HEADER, value)]) == 0
    progress = ReplayProgress()
    progress.take([(codec.REPLAY_MARK_HEADER, value)])
    assert not progress.doubtful


def test_null_headers_survive_letter_and_replay():
    """A null header is legal, and belongs to the record."""
    failed: Any = types.SimpleNamespace(
        topic="t", partition=0, offset=1, key=None, value=b"{", headers=[("", None), ("a", b"")]
    )
    written = records.encode(codec.dead_letter("scoring", failed, "bad", 9))
    _, _, headers = letters.record_of(records.decoder_of(records.DeadLetter).decode(written))
    assert list(headers)[:2] == [("", None), ("a", b"")]


def test_letter_of_a_failed_record_keeps_its_headers():
    """Some records cannot be read without them, and they count the replays."""

    record: Any = types.SimpleNamespace(
        topic="t", partition=0, offset=1, key=None, value=b"{", headers=((codec.REPLAYS_HEADER, b"1"),)
    )
    written = records.encode(codec.dead_letter("scoring", record, "bad", 9))
    assert letters.replays_of(records.decoder_of(records.DeadLetter).decode(written).headers) == 1


def test_marks_tell_what_arrived_what_is_doubtful_and_what_was_lost():
    """A mark speaks for its offsets alone; a lost one may be replayed again."""
    progress = ReplayProgress()
    progress.take([(codec.REPLAY_MARK_HEADER, records.encode(mark("begun", 1, 2, 3)))])
    assert progress.doubtful.keys() == {("shop.orders", 2, offset) for offset in (1, 2, 3)}
    progress.add(mark("arrived", 1))
    progress.add(mark("lost", 2))
    assert progress.has(("shop.orders", 2, 1))
    assert not progress.has(("shop.orders", 2, 2))
    assert not progress.has(("shop.orders", 1, 1))
    assert progress.doubtful.keys() == {("shop.orders", 2, 3)}


def test_doubt_ends_with_what_the_search_found():
    """One mark for each partition and finding."""
    progress = ReplayProgress()
    progress.add(mark("begun", 1, 2))
    progress.add(mark("begun", 5, topic="shop.labels"))
    settled = progress.settled({("shop.orders", 2, 2)})
    assert [(m.state, m.topic, m.offsets) for m in settled] == [
        ("lost", "shop.labels", [5]),
        ("lost", "shop.orders", [1]),
        ("arrived", "shop.orders", [2]),
    ]
    for each in settled:
        progress.add(each)
    assert not progress.doubtful
    assert progress.has(("shop.orders", 2, 2))


def test_a_cut_letter_is_shown_as_such() -> None:
    summary = LetterSummary(2)
    summary.add(0, letter(7, cut_from_bytes=9_000_000))
    (row,) = summary.rows(ReplayProgress())
    assert row.cut_from_bytes == 9_000_000
    assert letters.lines([row], summary.reasons)[0].endswith("cut from 9000000 bytes")
