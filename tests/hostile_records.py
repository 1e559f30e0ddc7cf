"""Valid and hostile records for topics of any kind, each with what must become of it. Pure, seeded.

A kind is one way in which a record can be bad or odd. It applies to every topic whose records have the
fields that it changes (`Shape`), and says what must become of the record there (`Fate`).
"""

import dataclasses
import json
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from streams import codec

MIB = 1 << 20
DAY_MS = 86_400_000
Json = dict[str, Any]
Headers = Sequence[tuple[str, bytes | None]]


def encoded(fields: Json) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode("utf-8", "surrogatepass")


class RawName(str):
    """The name of a header that is not UTF-8."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:  # always so
        return b"\xff\xfename"


class Fate(StrEnum):
    """What must become of a record."""

    ACCEPTED = "accepted"
    """It is handled like a valid one."""
    IGNORED = "ignored"
    """It has no value, and says nothing."""
    INVALID = "invalid"
    """A dead letter of every reader that decodes values."""
    AHEAD = "ahead"
    """A dead letter of every reader that compares event times with clocks; others accept it."""
    HEARTBEAT = "heartbeat"
    """A dead letter of every reader of heartbeats; others ignore it."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """The fields of the records of a topic that kinds change; None: there is no such field."""

    name: str
    id: str
    required: str
    """A field that must be there and not be null."""
    text: str | None = None
    number: str | None = None
    integer: str | None = None
    flag: str | None = None
    time: str | None = None
    tag: str | None = None
    """The field that tells records of different kinds in one topic apart."""
    model: str | None = None
    source_partition: str | None = None
    """The position of the record that this one was made from; -1 in a valid one."""
    is_stamp: bool = True
    """Whether the time is RFC 3339, else milliseconds."""
    is_int32: bool = False
    is_float32: bool = False
    has_loss: bool = False
    """Whether the square of the number, a loss, must be finite."""
    id_is_bounded: bool = False
    """Whether an id has at most `codec.ID_CHARACTERS_MAX` characters."""
    parts: tuple[str, ...] = ()
    """How the names of the only kinds begin that it has; empty: all."""
    all_are: Fate | None = None
    """What becomes of every record; None: it depends on the kind."""
    bytes_max: int | None = None
    """Maximum size of a value; None: none but that of the topic."""
    key_is_needed: bool = False
    """Whether the topic is compacted, so that the broker refuses records without a key."""

    is_avro: bool = False
    encode: Callable[[Json], bytes] = encoded

    def applies(self, kind: "Kind") -> bool:
        """Tell whether records of this shape can be of a kind."""
        if self.parts and not kind.name.startswith(self.parts):
            return False
        has_fields = all(getattr(self, need) is not None for need in kind.needs)
        has_encoding = kind.encoding in ("any", "avro" if self.is_avro else "json")
        return has_fields and has_encoding and not (kind.needs_no_key and self.key_is_needed)


@dataclasses.dataclass
class Draft:
    """A record that is being made: the fields of its value, then the parts of the record."""

    fields: Json
    key: bytes | None = b"key"
    value: bytes | None = None
    """None: the fields as JSON, unless ``has_value`` is false."""
    has_value: bool = True
    headers: list[tuple[str, bytes | None]] = dataclasses.field(default_factory=list)
    timestamp_ms: int | None = None
    """Kafka's timestamp; None: the producer's clock."""


@dataclasses.dataclass(frozen=True)
class Record:
    """A record to write."""

    kind: str
    """Empty: a valid one."""
    fate: Fate
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int | None
    fields: Json
    """What an accepted one holds."""


Change = Callable[[random.Random, Shape, Draft], None]


@dataclasses.dataclass(frozen=True)
class Kind:
    """One way in which a record can be hostile."""

    name: str
    change: Change
    fate: Callable[[Shape], Fate]
    reason: str = ""
    """A part of the reason of its dead letter, as a regular expression."""
    needs: tuple[str, ...] = ()
    """Fields of the shape without which the kind does not exist."""
    is_large: bool = False
    """Whether one record a topic is enough."""
    needs_no_key: bool = False
    encoding: str = "json"
    """``json``, ``avro``, or ``any`` if it does not depend on how values are encoded."""

    def record(self, rng: random.Random, shape: Shape, fields: Json, key: bytes) -> Record:
        """Return a record of this kind, made of the fields of a valid one."""
        draft = Draft(dict(fields), key)
        self.change(rng, shape, draft)
        value = draft.value
        if value is None and draft.has_value:
            value = shape.encode(draft.fields)
        return Record(
            self.name,
            shape.all_are or self.fate(shape),
            draft.key,
            value,
            draft.headers,
            draft.timestamp_ms,
            draft.fields,
        )


def valid(shape: Shape, fields: Json, key: bytes) -> Record:
    """Return a valid record."""
    return Record("", Fate.ACCEPTED, key, shape.encode(fields), [], None, fields)


# Changes.


def _value(make: Callable[[random.Random, Shape, Draft], bytes]) -> Change:
    def change(rng: random.Random, shape: Shape, draft: Draft) -> None:
        draft.value = make(rng, shape, draft)

    return change


def _fixed(*values: bytes) -> Change:
    return _value(lambda rng, _shape, _draft: rng.choice(values))


def _field(name: str, *values: Any) -> Change:
    """Set the field with this role in the shape."""

    def change(rng: random.Random, shape: Shape, draft: Draft) -> None:
        draft.fields[getattr(shape, name)] = rng.choice(values)

    return change


def _literal(name: str, *literals: str) -> Change:
    """Set the field with this role to JSON that an encoder would not write."""

    def change(rng: random.Random, shape: Shape, draft: Draft) -> None:
        fields = draft.fields | {getattr(shape, name): "LITERAL"}
        draft.value = encoded(fields).replace(b'"LITERAL"', rng.choice(literals).encode())

    return change


def _time(stamps: Sequence[str], milliseconds: Sequence[int]) -> Change:
    def change(rng: random.Random, shape: Shape, draft: Draft) -> None:
        assert shape.time is not None
        draft.fields[shape.time] = rng.choice(stamps) if shape.is_stamp else rng.choice(milliseconds)

    return change


def _nested(levels: int) -> Change:
    opening, closing = "[" * levels, "]" * levels
    return _appended(f', "nested": {opening}{closing}}}')


def _appended(text: str) -> Change:
    """Put text in place of the last brace."""
    return _value(lambda _rng, _shape, draft: encoded(draft.fields)[:-1] + text.encode())


def _padded(size_bytes: Callable[[Shape], int]) -> Change:
    """Fill up with spaces before the last brace."""

    def make(_rng: random.Random, shape: Shape, draft: Draft) -> bytes:
        start = encoded(draft.fields)[:-1]
        return start.ljust(size_bytes(shape) - 1) + b"}"

    return _value(make)


def _without(name: str) -> Change:
    def change(_rng: random.Random, shape: Shape, draft: Draft) -> None:
        del draft.fields[getattr(shape, name)]

    return change


def _unknown_fields(rng: random.Random, _shape: Shape, draft: Draft) -> None:
    draft.fields |= {f"unknown-{number}-\u202e\x00": [rng.random(), {"a": None}] for number in range(50)}


def _not_utf8(_rng: random.Random, shape: Shape, draft: Draft) -> bytes:
    return encoded(draft.fields | {str(shape.text): "BYTES"}).replace(b"BYTES", b"\xff\xfe\xc0")


def _duplicate(_rng: random.Random, shape: Shape, draft: Draft) -> bytes:
    first = encoded({shape.id: "another"})[:-1]
    return first + b", " + encoded(draft.fields)[1:]


def _truncated(rng: random.Random, _shape: Shape, draft: Draft) -> bytes:
    whole = encoded(draft.fields)
    return whole[: rng.randrange(1, len(whole))]


def _key(*keys: bytes | None) -> Change:
    def change(rng: random.Random, _shape: Shape, draft: Draft) -> None:
        draft.key = rng.choice(keys)

    return change


def _headers(*given: Sequence[tuple[str, bytes | None]]) -> Change:
    def change(rng: random.Random, _shape: Shape, draft: Draft) -> None:
        draft.headers = list(rng.choice(given))

    return change


def _heartbeat(*values: bytes | None) -> Change:
    def change(rng: random.Random, _shape: Shape, draft: Draft) -> None:
        draft.has_value, draft.headers = False, [(codec.HEARTBEAT_HEADER, rng.choice(values))]

    return change


def _tombstone(_rng: random.Random, _shape: Shape, draft: Draft) -> None:
    draft.has_value = False


def _timestamp(timestamp_ms: int) -> Change:
    def change(_rng: random.Random, _shape: Shape, draft: Draft) -> None:
        draft.timestamp_ms = timestamp_ms

    return change


def _limit(shape: Shape) -> int:
    return shape.bytes_max or MIB


# Kinds.


def _if(is_invalid: Callable[[Shape], bool]) -> Callable[[Shape], Fate]:
    return lambda shape: Fate.INVALID if is_invalid(shape) else Fate.ACCEPTED


def _always(fate: Fate) -> Callable[[Shape], Fate]:
    return lambda _shape: fate


def _bad(name: str, change: Change, reason: str = "", *needs: str, is_large: bool = False) -> Kind:
    return Kind(name, change, _always(Fate.INVALID), reason, needs, is_large=is_large)


def _odd(name: str, change: Change, *needs: str, is_large: bool = False, no_key: bool = False) -> Kind:
    return Kind(name, change, _always(Fate.ACCEPTED), "", needs, is_large=is_large, needs_no_key=no_key)


_FAR_MS = 1_000_000 * DAY_MS
_BEAT = rf"the header {codec.HEARTBEAT_HEADER} is .*: write milliseconds"
_LARGE = "bytes, the limit is"


def kinds(now_ms: int) -> Mapping[str, Kind]:
    """Return all kinds by name; some depend on the wall time."""
    beat = codec.HEARTBEAT_HEADER
    day_ahead = codec.EPOCH + (now_ms + DAY_MS) * codec.MILLISECOND
    stamp = day_ahead.isoformat()
    made = [
        # The bytes of the value.
        _bad("value_empty", _fixed(b""), "truncated"),
        Kind("value_null", _tombstone, _always(Fate.IGNORED)),
        _bad(
            "value_is_no_json",
            _fixed(b"hello", b"<a/>", b"id=7&at=8", b"\x00\x00\x00\x00\x07\x02"),
            "malformed",
        ),
        _bad("value_is_truncated", _value(_truncated), "truncated|malformed"),
        _bad("value_is_not_utf8", _value(_not_utf8), "utf-8", "text"),
        _bad("byte_order_mark", _value(lambda _r, _s, d: b"\xef\xbb\xbf" + encoded(d.fields)), "malformed"),
        _bad("utf16", _value(lambda _r, _s, d: json.dumps(d.fields).encode("utf-16")), "malformed"),
        _bad("trailing_bytes", _value(lambda _r, _s, d: encoded(d.fields) + b"}"), "trailing"),
        _bad(
            "root_is_an_array", _value(lambda _r, _s, d: b"[" + encoded(d.fields) + b"]"), "Expected `object`"
        ),
        _bad("root_is_a_scalar", _fixed(b"null", b"7", b'"text"', b"true"), "Expected `object`"),
        _bad("nested_2000", _nested(2000), "nested too deeply"),
        _bad("nested_100000", _nested(100_000), "nested too deeply", is_large=True),
        _odd("nested_500", _nested(500)),
        _odd("duplicate_keys", _value(_duplicate)),
        _odd("white_space", _value(lambda _r, _s, d: b"\n\t " + encoded(d.fields) + b"\r\n")),
        # Numbers.
        _bad("number_1e400", _literal("number", "1e400", "-1e400"), "out of range", "number"),
        _bad("number_of_400_digits", _literal("number", "9" * 400), "out of range", "number"),
        _bad("nan_and_infinity", _literal("number", "NaN", "Infinity", "-Infinity"), "malformed", "number"),
        _odd("minus_zero", _literal("number", "-0.0"), "number"),
        _odd("number_1e-400", _literal("number", "1e-400", "5e-324"), "number"),
        Kind(
            "float_beyond_32_bits",
            _field("number", 1e39, -1e39),
            _if(lambda shape: shape.is_float32),
            "Expected `float`",
            ("number",),
        ),
        Kind(
            "float_1e308",
            _field("number", 1.7e308, -1.7e308),
            _if(lambda shape: shape.is_float32 or shape.has_loss),
            "Expected `float`|absolute value",
            ("number",),
        ),
        _bad("boolean_for_a_number", _field("number", True), "Expected `float", "number"),
        _bad("text_for_a_number", _field("number", "1.5", "", "NaN"), "Expected `float", "number"),
        _bad("array_for_a_number", _field("number", [], [1.0], {}), "Expected `float", "number"),
        _bad("integer_beyond_64_bits", _field("integer", 2**63, -(2**63) - 1, 2**64, 2**200), "", "integer"),
        _bad("integer_of_400_digits", _literal("integer", "9" * 400), "", "integer"),
        Kind(
            "integer_beyond_32_bits",
            _field("integer", 2**31, -(2**31) - 1, 2**53 + 1, 2**63 - 1),
            _if(lambda shape: shape.is_int32),
            "Expected `int`",
            ("integer",),
        ),
        _bad("fraction_for_an_integer", _field("integer", 1.5, 1.0), "Expected `int", "integer"),
        _bad("boolean_for_an_integer", _field("integer", True), "Expected `int", "integer"),
        _bad("number_for_a_boolean", _field("flag", 1, "true"), "Expected `bool", "flag"),
        # Text.
        _bad("lone_surrogate", _literal("text", '"\\ud800"', '"\\udfff\\ud800"'), "", "text"),
        _bad("number_for_a_text", _field("text", 7, 1.5, ["a"]), "Expected `str", "text"),
        _odd(
            "control_characters",
            _field("text", "\x00\x1b[2J\u202e\ufeff", "'; DROP TABLE x; --", "\U0001f600"),
            "text",
        ),
        Kind(
            "text_of_100000_characters",
            _field("text", "\x01" * 100_000, "é" * 100_000),
            _always(Fate.ACCEPTED),
            needs=("text",),
            is_large=True,
        ),
        # Fields.
        _bad("required_field_is_missing", _without("required"), "missing required field"),
        _bad("required_field_is_null", _field("required", None), "Expected `"),
        _odd("unknown_fields", _unknown_fields),
        # Ids.
        Kind(
            "id_of_513_characters",
            lambda rng, shape, draft: draft.fields.update(
                {shape.id: "é" * 502 + f"{rng.randrange(10**11):011}"}
            ),
            _if(lambda shape: shape.id_is_bounded),
            "length <= 512",
        ),
        Kind(
            "id_of_1_mib",
            _field("id", "i" * MIB),
            _if(lambda shape: shape.id_is_bounded or shape.bytes_max is not None),
            "length <= 512|" + _LARGE,
            is_large=True,
        ),
        # Times.
        _bad(
            "time_is_no_time",
            _time(
                ("0000-01-01T00:00:00Z", "2026-02-30T00:00:00Z", "55841-01-01T00:00:00Z", "", "now"),
                (-(10**18), 10**17),
            ),
            "",
            "time",
        ),
        _bad("time_before_year_1", _time(("0001-01-01T00:00:00+14:00",), (-62_135_596_800_001,)), "", "time"),
        _bad("time_in_microseconds", _time((now_ms * 1000,), (now_ms * 1000,)), "", "time"),  # type: ignore[arg-type]
        _bad("time_is_text_or_number", _time((1764460800000, -1), ("2026-01-01T00:00:00Z",)), "", "time"),  # type: ignore[arg-type]
        Kind(
            "time_a_day_ahead",
            _time((stamp,), (now_ms + DAY_MS,)),
            _always(Fate.AHEAD),
            "ahead of",
            ("time",),
        ),
        Kind(
            "time_in_year_9999",
            _time(("9999-12-31T23:59:59Z", "9999-12-31T23:59:59+14:00"), (codec.LATEST_MS,)),
            _always(Fate.AHEAD),
            "ahead of",
            ("time",),
        ),
        Kind("kafka_time_in_1970", _timestamp(1), _always(Fate.AHEAD), "ahead of", ("time",)),
        _odd("kafka_time_zero", _timestamp(0)),
        _odd("kafka_time_in_half_an_hour", _timestamp(now_ms + DAY_MS // 48)),
        # Keys and headers.
        _odd("key_null", _key(None), no_key=True),
        _odd("key_empty", _key(b""), no_key=True),
        _odd("key_is_not_utf8", _key(b"\xff\xfe\x00key", b"\xc0\x80")),
        _odd("key_of_another", _key(b"another", b"null", b"0", b'{"id": 7}')),
        _odd("key_of_200_kb", _key(b"k" * 200_000), is_large=True),
        _odd("header_null", _headers([("a", None)], [("traceparent", None)], [("tracestate", None)])),
        _odd("header_empty", _headers([("", b"")], [("", None)], [("a", b"")])),
        _odd("header_is_not_utf8", _headers([("a", b"\xff\xfe\xc0")], [("traceparent", b"\xff" * 55)])),
        _odd(
            "header_name_is_not_utf8", _headers([(RawName("?"), b"1")], [("a", b"1"), (RawName("?"), None)])
        ),
        _odd("header_of_200_kb", _headers([("a", b"h" * 200_000)]), is_large=True),
        _odd(
            "headers_repeated",
            _headers([("a", b"%d" % n) for n in range(200)], [("traceparent", b"00-1-2-3")] * 5),
        ),
        _odd(
            "trace_is_malformed",
            _headers(
                [("traceparent", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01")],
                [("traceparent", b"zz"), ("tracestate", b"\x00" * 600)],
                [("traceparent", b"")],
            ),
        ),
        _odd(
            "headers_of_ours",
            _headers(
                [(codec.REPLAYED_FROM_HEADER, b"nowhere/x/-1"), (codec.REPLAYS_HEADER, b"nine")],
                [(codec.REPLAYS_HEADER, None), (codec.REPLAYED_FROM_HEADER, None)],
                [(codec.REPLAY_MARK_HEADER, b"{}"), ("ce_id", b"\xff"), (beat, b"abc")],
            ),
        ),
        # Sizes.
        _odd("just_below_the_limit", _padded(_limit), is_large=True),
        Kind(
            "just_above_the_limit",
            _padded(lambda shape: _limit(shape) + 1),
            _if(lambda shape: shape.bytes_max is not None),
            _LARGE,
            is_large=True,
        ),
        Kind(
            "compressed_10_mib",
            _padded(lambda _shape: 10 * MIB),
            _if(lambda shape: shape.bytes_max is not None),
            _LARGE,
            is_large=True,
        ),
        # Heartbeats.
        Kind(
            "heartbeat_is_text",
            _heartbeat(b"abc", b"1e9", b"0x7", b"\xff\xfe"),
            _always(Fate.HEARTBEAT),
            _BEAT,
        ),
        Kind("heartbeat_empty", _heartbeat(b""), _always(Fate.HEARTBEAT), _BEAT),
        Kind("heartbeat_null", _heartbeat(None), _always(Fate.HEARTBEAT), _BEAT),
        Kind("heartbeat_of_5000_digits", _heartbeat(b"9" * 5000), _always(Fate.HEARTBEAT), _BEAT),
        Kind(
            "heartbeat_with_signs",
            _heartbeat(b"+5", b" 5", b"1_000", "٣".encode()),
            _always(Fate.HEARTBEAT),
            _BEAT,
        ),
        Kind(
            "heartbeat_in_microseconds", _heartbeat(b"%d" % (now_ms * 1000)), _always(Fate.HEARTBEAT), _BEAT
        ),
        Kind(
            "heartbeat_a_day_ahead",
            _heartbeat(b"%d" % (now_ms + DAY_MS)),
            _always(Fate.HEARTBEAT),
            "ahead of",
        ),
        Kind("heartbeat_negative", _heartbeat(b"-5", b"-62135596800000"), _always(Fate.IGNORED)),
    ]
    made += _avro_kinds() + _syntax_kinds() + _envelope_kinds()
    named = {kind.name: kind for kind in made}
    return {
        name: dataclasses.replace(kind, encoding="any") if _is_of_any_encoding(name) else kind
        for name, kind in named.items()
    }


def _syntax_kinds() -> list[Kind]:
    """Return kinds of JSON that parsers read differently."""

    def first_of_another_type(_rng: random.Random, shape: Shape, draft: Draft) -> bytes:
        return encoded({shape.id: {"a": [7]}})[:-1] + b", " + encoded(draft.fields)[1:]

    def escaped_names(_rng: random.Random, shape: Shape, draft: Draft) -> bytes:
        name = encoded({shape.id: 0})[1:-4]
        escaped = "".join(f"\\u{ord(letter):04x}" for letter in shape.id)
        return encoded(draft.fields).replace(name, f'"{escaped}"'.encode(), 1)

    def as_utf8(_rng: random.Random, shape: Shape, draft: Draft) -> bytes:
        return encoded(draft.fields | {str(shape.text): "\ud83d\ude00"})

    def two_objects(_rng: random.Random, _shape: Shape, draft: Draft) -> bytes:
        return encoded(draft.fields) + b"\n" + encoded(draft.fields)

    def commented(_rng: random.Random, _shape: Shape, draft: Draft) -> bytes:
        return b"/* c */" + encoded(draft.fields)

    def quoted(_rng: random.Random, _shape: Shape, draft: Draft) -> bytes:
        return encoded(draft.fields).replace(b'"', b"'")

    return [
        _bad("first_of_a_name_is_of_another_type", _value(first_of_another_type), "Expected `"),
        _odd("names_are_escaped", _value(escaped_names)),
        _bad("two_objects", _value(two_objects), "trailing"),
        _bad("comment", _value(commented), "malformed"),
        _bad("single_quotes", _value(quoted), "malformed"),
        _bad("trailing_comma", _appended(", }"), "malformed|trailing comma"),
        _bad("zero_bytes", _fixed(b"\0" * 100), "malformed"),
        _bad("compressed_value", _fixed(b"\x1f\x8b\x08\0\0\0\0\0\0\3\xabV\xcaH"), "malformed"),
        _bad("message_pack", _fixed(b"\x82\xa2id\xa17\xa2at\xcb"), "malformed"),
        _bad("leading_zero", _literal("number", "01", "-01", "00.5"), "invalid number|malformed", "number"),
        _bad("number_without_digits", _literal("number", ".5", "1.", "+1", "0x10", "1e"), "", "number"),
        _bad("surrogates_as_utf8", _value(as_utf8), "utf-8", "text"),
        _odd("surrogate_pair", _literal("text", '"\\ud83d\\ude00"'), "text"),
        _odd("wide_array", _appended(f', "wide": [{"0, " * 100_000}0]}}'), is_large=True),
        _odd(
            "wide_object",
            _appended(", " + ", ".join(f'"w{number}": 0' for number in range(20_000)) + "}"),
            is_large=True,
        ),
        _odd("nameless_field", _appended(', "": {"": []}}')),
        _bad(
            "time_of_another_calendar",
            _time(
                ("2016-12-31T23:59:60Z", "2026-01-01T24:00:00Z", "2026-W01-1T00:00:00Z", "2026-001"),
                (-(10**18),),
            ),
            "",
            "time",
        ),
    ]


def _envelope_kinds() -> list[Kind]:
    """Return kinds of headers, of records without a value, and of fields by which readers order records."""

    def cloud_event(_rng: random.Random, _shape: Shape, draft: Draft) -> None:
        event = {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": draft.fields}
        draft.value = encoded(event)
        draft.headers = [("content-type", b"application/cloudevents+json")]

    def odd_tombstone(rng: random.Random, _shape: Shape, draft: Draft) -> None:
        draft.has_value = False
        draft.key = rng.choice([b"\xff\xfe", b"m/features/", b"/", b"silence/", b"k" * 50_000, b"{}", b"\0"])

    return [
        _bad("cloud_event_with_its_data_inside", cloud_event, "missing required field|Invalid value"),
        _odd(
            "cloud_event_headers_of_another",
            _headers(
                [("ce_specversion", b"99"), ("ce_id", b""), ("ce_type", None), ("ce_time", b"yesterday")],
                [("ce_source", b"\xff"), ("ce_specversion", b"1.0"), ("ce_specversion", b"0.3")],
                [("content-type", b"application/x-protobuf"), ("content-type", None)],
            ),
        ),
        Kind("tombstone_with_an_odd_key", odd_tombstone, _always(Fate.IGNORED)),
        _bad("tag_is_unknown", _field("tag", "surprise", "", "drift_alarm\0"), "", "tag"),
        _bad("tag_is_no_text", _field("tag", 7, None, ["silence"], {}), "", "tag"),
        _bad(
            "model_of_another_topic",
            _field("model", "another", ""),
            "find the process that wrote it",
            "model",
        ),
        _bad(
            "source_of_another_partition",
            _field("source_partition", 2**31 - 1, 77, -(2**31)),
            "find the process that wrote it",
            "source_partition",
        ),
    ]


OTHER_SCHEMA, JSON_SCHEMA = 0xFFFF0001, 0xFFFF0002
"""Stand for the ids of a schema without the declared fields, and of one that is not Avro, in values."""


def _avro_kinds() -> list[Kind]:
    def avro(name: str, change: Change, reason: str, *needs: str) -> Kind:
        return Kind(name, change, _always(Fate.INVALID), reason, needs, encoding="avro")

    def of_schema(number: int) -> Change:
        return _value(lambda _r, shape, d: b"\0" + number.to_bytes(4) + shape.encode(d.fields)[5:])

    def cut(rng: random.Random, shape: Shape, draft: Draft) -> bytes:
        whole = shape.encode(draft.fields)
        return whole[: rng.randrange(5, len(whole))]

    def not_utf8(_rng: random.Random, shape: Shape, draft: Draft) -> bytes:
        return shape.encode(draft.fields | {shape.id: "BYTES"}).replace(b"BYTES", b"\xff\xfe\xc0\x80\xff")

    no_header, unfit = "the record begins with", "the record does not fit schema"
    return [
        avro(
            "avro_varint_without_end", _value(lambda _r, s, d: s.encode(d.fields)[:5] + b"\xff" * 40), unfit
        ),
        avro("avro_schema_id_of_all_bits", of_schema(0xFFFFFFFF), "registry has no schema"),
        avro("avro_empty", _fixed(b""), no_header),
        avro("avro_is_short", _fixed(b"\0", b"\0\0\0\7"), no_header),
        avro("avro_magic_byte", _value(lambda _r, s, d: b"\1" + s.encode(d.fields)[1:]), no_header),
        avro("avro_is_json", _value(lambda _r, _s, d: encoded(d.fields)), no_header),
        avro("avro_schema_is_unknown", of_schema(0x7FFFFFFF), "registry has no schema"),
        avro("avro_schema_of_another", of_schema(OTHER_SCHEMA), "does not have the declared field"),
        avro("avro_schema_is_json", of_schema(JSON_SCHEMA), "but AVRO is declared"),
        avro("avro_is_truncated", _value(cut), unfit),
        avro("avro_trailing_bytes", _value(lambda _r, s, d: s.encode(d.fields) + b"rest"), "bytes are left"),
        avro("avro_length_of_2_62", _value(lambda _r, s, d: s.encode(d.fields)[:5] + _LENGTH + b"a"), unfit),
        avro("avro_text_is_not_utf8", _value(not_utf8), unfit),
        avro("avro_infinity", _field("number", math.inf, -math.inf), "Expected `float`", "number"),
        Kind(
            "avro_nan",
            _field("number", math.nan),
            _if(lambda shape: shape.number == shape.required),
            "Expected `float",
            ("number",),
            encoding="avro",
        ),
    ]


_LENGTH = b"\x80" * 8 + b"\x80\x01"
"""A length of some 2^62, as Avro writes it."""
_OF_ANY_ENCODING = (
    "value_null", "float_", "integer_beyond_32", "control", "text_of", "id_of", "time_a",
    "time_in_year", "time_before", "kafka", "key", "header", "trace", "heartbeat", "tombstone",
    "cloud_event_headers",
)  # fmt: skip
"""How the names of kinds begin that change fields, or nothing of the value."""


def _is_of_any_encoding(name: str) -> bool:
    return name.startswith(_OF_ANY_ENCODING)


def spread(rng: random.Random, made: Iterable[Kind], shape: Shape, count: int) -> list[Kind]:
    """Return ``count`` kinds for one topic: each at least once, large ones exactly once."""
    fit = [kind for kind in made if shape.applies(kind)]
    small = [kind for kind in fit if not kind.is_large]
    chosen = fit + [small[number % len(small)] for number in range(max(0, count - len(fit)))]
    rng.shuffle(chosen)
    return chosen
