"""The dead letters and their replays, as the records of their topic show them. Pure."""

import collections
import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from services.runtime.times import duration_ms
from streams import codec, records
from streams.json_decoder import InvalidRecordError
from streams.producer import Record

REPLAYS_MAX = 3
"""Maximum replays of a record by default: one that failed this often will probably fail again."""
REASONS_MAX = 1000
"""Maximum reasons that are counted separately; all others are counted as `OTHER_REASONS`."""
REASONS_SHOWN_MAX = 20
OTHER_REASONS = "(other reasons)"
TEXT_CHARS_MAX = 80
"""Maximum characters of a key or a value that are shown."""

LetterSource = tuple[str, int, int]
"""Topic, partition and offset of a failed record: its identity, as several processes may fail on it."""

_OURS = frozenset({codec.REPLAYED_FROM_HEADER, codec.REPLAYS_HEADER})
_SOURCE = re.compile(rb"(?P<topic>[\w.-]{1,249})/(?P<partition>\d{1,10})/(?P<offset>\d{1,19})")
_COUNT = re.compile(rb"[0-9]{1,9}")
_decode_letter = records.decoder_of(records.DeadLetter).decode
_decode_mark = records.decoder_of(records.ReplayMark).decode
_log = structlog.get_logger()


@dataclasses.dataclass(frozen=True)
class LetterFilter:
    """Which letters are selected; None selects all."""

    service: str | None = None
    topic: str | None = None
    since_ms: int | None = None
    """Wall time of the failure."""

    def admits(self, letter: records.DeadLetter) -> bool:
        """Tell whether a letter is selected."""
        return (
            self.service in (None, letter.service)
            and self.topic in (None, letter.topic)
            and (self.since_ms is None or letter.failed_time_ms >= self.since_ms)
        )


@dataclasses.dataclass(frozen=True)
class LetterRow:
    """One letter in the form in which it is shown."""

    offset: int
    """The offset of the letter."""
    failed_at: str
    service: str
    source: str
    reason: str
    key: str | None
    value: str | None
    """The start of the value."""
    replays: int
    """How often the record had been replayed before this failure."""
    replayed: bool = False
    """Whether it has been replayed since."""
    cut_from_bytes: int | None = None
    """Size of the complete record if the letter holds only its start; the source says where it is."""


class LetterSummary:
    """The newest letters and the number of letters by reason, in bounded memory."""

    def __init__(self, rows_max: int) -> None:
        """Keep at most ``rows_max`` letters."""
        self._rows: collections.deque[tuple[LetterSource, LetterRow]] = collections.deque(maxlen=rows_max)
        self.reasons: collections.Counter[str] = collections.Counter()

    def add(self, offset: int, letter: records.DeadLetter) -> None:
        """Count a letter and keep its row."""
        known = letter.reason in self.reasons or len(self.reasons) < REASONS_MAX
        self.reasons[letter.reason if known else OTHER_REASONS] += 1
        self._rows.append((source_of(letter), _row(offset, letter)))

    def rows(self, replayed: "ReplayProgress") -> list[LetterRow]:
        """Return the newest letters, oldest first."""
        return [dataclasses.replace(row, replayed=replayed.has(source)) for source, row in self._rows]


class ReplayProgress:
    """Which failed records have been replayed, according to the marks among the letters."""

    def __init__(self) -> None:
        """Start without any replay."""
        self.doubtful: dict[LetterSource, records.ReplayMark] = {}
        """Replays that were begun and may or may not have arrived."""
        self._arrived: dict[tuple[str, int], set[int]] = collections.defaultdict(set)

    def has(self, source: LetterSource) -> bool:
        """Tell whether a failed record has been replayed and has arrived."""
        return source[2] in self._arrived.get(source[:2], ())

    def take(self, headers: codec.Headers) -> None:
        """Add the marks in the headers of a record without a value."""
        for name, value in headers:
            if name != codec.REPLAY_MARK_HEADER:
                continue
            try:
                mark = _decode_mark(value)
            except InvalidRecordError as error:
                _log.warning("dead_letters.mark_skipped", error=str(error))
                continue
            self.add(mark)

    def add(self, mark: records.ReplayMark) -> None:
        """Add a mark."""
        for offset in mark.offsets:
            source = (mark.topic, mark.partition, offset)
            if mark.state == "begun":
                self.doubtful[source] = mark
            else:
                self.doubtful.pop(source, None)
        if mark.state == "arrived":
            self._arrived[mark.topic, mark.partition].update(mark.offsets)

    def settled(self, found: frozenset[LetterSource] | set[LetterSource]) -> list[records.ReplayMark]:
        """Return the marks that settle all doubtful replays, given the replayed records that were found."""
        groups: dict[tuple[str, int, str], list[int]] = collections.defaultdict(list)
        for topic, partition, offset in sorted(self.doubtful):
            state = "arrived" if (topic, partition, offset) in found else "lost"
            groups[topic, partition, state].append(offset)
        marks = []
        for (topic, partition, state), offsets in groups.items():
            begun = self.doubtful[topic, partition, offsets[0]]
            marks.append(
                records.ReplayMark(
                    state="arrived" if state == "arrived" else "lost",
                    topic=topic,
                    partition=partition,
                    offsets=offsets,
                    begun_ms=begun.begun_ms,
                    end_offset=begun.end_offset,
                )
            )
        return marks


def decoded(record: codec.KafkaRecord) -> records.DeadLetter | None:
    """Return the letter of a record; log and return None if it is not one."""
    try:
        letter: records.DeadLetter = _decode_letter(record.value)
    except InvalidRecordError as error:
        _log.warning("dead_letters.record_skipped", offset=record.offset, error=str(error))
        return None
    return letter


def since_ms(text: str, now_ms: int) -> int:
    """Return the wall time a duration ago; ValueError with what can be written.

    >>> since_ms("2h", 10_000_000)
    2800000
    """
    return now_ms - duration_ms(text)


def source_of(letter: records.DeadLetter) -> LetterSource:
    """Return topic, partition and offset of a letter's failed record."""
    return (letter.topic, letter.partition, letter.offset)


def replays_of(headers: codec.Headers) -> int:
    """Return how often a record with these headers has been replayed."""
    for name, value in headers:
        if name == codec.REPLAYS_HEADER and value is not None and _COUNT.fullmatch(value):
            return int(value)
    return 0


def replayed_from(headers: codec.Headers) -> LetterSource | None:
    """Return the source of a replayed record, from its headers; None if it is not a replay."""
    for name, value in headers:
        if name == codec.REPLAYED_FROM_HEADER and (found := _SOURCE.fullmatch(value or b"")):
            return found["topic"].decode(), int(found["partition"]), int(found["offset"])
    return None


def record_of(letter: records.DeadLetter) -> Record:
    """Return the failed record unchanged, plus headers with its source and its number of replays."""
    ours: list[tuple[str, bytes | None]] = [
        (codec.REPLAYED_FROM_HEADER, place(source_of(letter)).encode()),
        (codec.REPLAYS_HEADER, b"%d" % (replays_of(letter.headers) + 1)),
    ]
    return letter.key, letter.value, [h for h in letter.headers if h[0] not in _OURS] + ours


def lines(rows: Sequence[LetterRow], reasons: Mapping[str, int]) -> list[str]:
    """Return the lines for a terminal: two per letter, then the number of letters by reason."""
    shown = []
    for row in rows:
        notes = [f"came back {row.replays} times"] if row.replays else []
        notes += ["replayed since"] if row.replayed else []
        notes += [f"cut from {row.cut_from_bytes} bytes"] if row.cut_from_bytes is not None else []
        shown.append("  ".join([row.failed_at, row.service, row.source, row.reason, *notes]))
        shown.append(f"    key {row.key}  value {row.value}")
    counted = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    shown.append(f"{sum(reasons.values())} letters, {len(rows)} shown")
    shown += [f"{number:>8}  {reason}" for reason, number in counted[:REASONS_SHOWN_MAX]]
    if len(counted) > REASONS_SHOWN_MAX:
        shown.append(f"          and {len(counted) - REASONS_SHOWN_MAX} more reasons; --json names them")
    return shown


def document(rows: Sequence[LetterRow], reasons: Mapping[str, int]) -> dict[str, Any]:
    """Return the same as a JSON document."""
    return {
        "letters": [dataclasses.asdict(row) for row in rows],
        "letters_total": sum(reasons.values()),
        "reasons": dict(reasons),
    }


def _row(offset: int, letter: records.DeadLetter) -> LetterRow:
    return LetterRow(
        offset=offset,
        failed_at=(codec.EPOCH + letter.failed_time_ms * codec.MILLISECOND).isoformat(timespec="seconds"),
        service=letter.service,
        source=place(source_of(letter)),
        reason=letter.reason,
        key=_text(letter.key),
        value=_text(letter.value),
        replays=replays_of(letter.headers),
        cut_from_bytes=letter.cut_from_bytes,
    )


def place(source: LetterSource) -> str:
    """Return topic, partition and offset as they are shown."""
    topic, partition, offset = source
    return f"{topic}/{partition}/{offset}"


def _text(raw: bytes | None) -> str | None:
    if raw is None:
        return None
    text = raw[: 4 * TEXT_CHARS_MAX].decode(errors="backslashreplace")
    return text[:TEXT_CHARS_MAX] + ("…" if len(text) > TEXT_CHARS_MAX else "")
