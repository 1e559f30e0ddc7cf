"""Strict decoding by declared schemas, heartbeats, repeats."""

import contextlib
import datetime as dt
import math
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import codec

DECODER = codec.EventDecoder(
    codec.parse_ddl("id string not null, at timestamp not null, n int not null, x double, ok boolean")
)


def test_valid_record_becomes_typed_attributes():
    event = DECODER.decode(b'{"id":"a","at":"2013-07-01T16:05:00Z","n":3,"x":1.5,"more":[1]}')
    assert (event.id, event.n, event.x, event.ok) == ("a", 3, 1.5, None)
    assert codec.epoch_ms(event.at) == 1_372_694_700_000


@pytest.mark.parametrize(
    ("raw", "names"),
    [
        (b'{"at":"2013-07-01T16:05:00Z","n":3}', "id"),
        (b'{"id":"a","at":"2013-07-01T16:05:00Z","n":"3"}', "$.n"),
        (b'{"id":"a","at":"2013-07-01T16:05:00Z","n":3.5}', "$.n"),
        (b'{"id":"a","at":"2013-07-01T16:05:00","n":3}', "$.at"),
        (b'{"id":"a","at":"2013-07-01T16:05:00Z","n":3,"x":NaN}', "JSON"),
        (b'{"id":null,"at":"2013-07-01T16:05:00Z","n":3}', "$.id"),
        (b'{"id":"\xff","at":"2013-07-01T16:05:00Z","n":3}', ""),
        (b'{"id":"a","at":"2013-07-01T16:05:00Z","n":99999999999999999999}', "$.n"),
        (b"not json", "JSON"),
        (b"", ""),
        (b"[]", "object"),
    ],
)
def test_record_that_does_not_fit_is_refused_and_the_message_names_the_place(raw, names):
    with pytest.raises(codec.InvalidRecordError) as refused:
        DECODER.decode(raw)
    assert names in str(refused.value)


def test_record_without_a_value_is_refused():
    with pytest.raises(codec.InvalidRecordError, match="no value"):
        DECODER.decode(None)


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused_but_never_crash(raw):
    with contextlib.suppress(codec.InvalidRecordError):
        DECODER.decode(raw)


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        (b'{"count": 2147483648}', "count"),
        (b'{"count": -2147483649}', "count"),
        (b'{"ratio": 1e39}', "ratio"),
        (b'{"ratio": -3.5e38}', "ratio"),
    ],
)
def test_number_out_of_its_range_is_refused_with_its_field(raw, named):
    ranges = {"count": codec.INT32_RANGE, "ratio": codec.FLOAT32_RANGE}
    decoder = codec.EventDecoder(codec.parse_ddl("count long, ratio double"), ranges)
    with pytest.raises(codec.InvalidRecordError, match=rf"\$\.{named}"):
        decoder.decode(raw)
    assert decoder.decode(b'{"count": 2147483647, "ratio": -3.4e38}').count == 2**31 - 1


def test_parsed_values_may_hold_nan_for_null_but_no_infinity():
    decoder = codec.EventDecoder(codec.parse_ddl("ratio double, other double not null"))
    assert decoder.convert({"ratio": math.nan, "other": 1.0}).ratio is None
    for value in (math.nan, math.inf):
        with pytest.raises(codec.InvalidRecordError, match=r"\$\.other"):
            decoder.convert({"other": value})


def test_ddl_with_an_unknown_type_names_the_column():
    with pytest.raises(codec.SchemaError, match="'where geography'"):
        codec.parse_ddl("id string, where geography")


def test_ddl_columns_are_nullable_unless_they_say_otherwise():
    assert [field.nullable for field in codec.parse_ddl("a string NOT NULL, b: long, c timestamp")] == [
        False,
        True,
        True,
    ]


@given(st.integers(codec.EARLIEST_MS, codec.LATEST_MS))
def test_heartbeat_carries_its_watermark(watermark_ms):
    assert codec.watermark_of(codec.heartbeat(watermark_ms)) == watermark_ms


def test_other_headers_are_no_heartbeat():
    assert (
        codec.watermark_of([("traceparent", b"00-1-2-01"), ("", b""), ("x", None), ("x" * 9999, b"1")])
        is None
    )


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"abc",
        b" 5",
        b"+5",
        b"1e3",
        b"1_000",
        b"\xd9\xa3",
        b"9" * 5000,
        b"1700000000000000",
        b"-1" + b"0" * 14,
    ],
)
def test_heartbeat_that_is_no_time_is_refused(value):
    with pytest.raises(codec.InvalidRecordError, match=codec.HEARTBEAT_HEADER) as caught:
        codec.watermark_of([(codec.HEARTBEAT_HEADER, value)])
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("watermark_ms", [-1, codec.EARLIEST_MS, codec.LATEST_MS])
def test_heartbeat_may_be_any_time_of_the_calendar(watermark_ms):
    assert codec.watermark_of(codec.heartbeat(watermark_ms)) == watermark_ms


PARENT = ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")


@pytest.mark.parametrize(
    ("headers", "propagated"),
    [
        ([PARENT, ("tracestate", b"a=1")], [PARENT, ("tracestate", b"a=1")]),
        ([PARENT, ("tracestate", None)], [PARENT]),
        ([PARENT, ("tracestate", b"\xff")], [PARENT]),
        ([PARENT, ("tracestate", b"a" * 513)], [PARENT]),
        ([("traceparent", None), ("tracestate", b"a=1")], []),
        ([("traceparent", b"\xff"), ("", None), ("ce_id", None)], []),
    ],
)
def test_only_sound_trace_headers_are_propagated(headers, propagated):
    assert codec.trace_headers(headers) == propagated


@given(st.datetimes(timezones=st.just(dt.UTC)))
def test_epoch_milliseconds_are_the_moment_to_the_millisecond_below(moment):
    back = codec.EPOCH + dt.timedelta(milliseconds=codec.epoch_ms(moment))
    assert dt.timedelta(0) <= moment - back < dt.timedelta(milliseconds=1)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
def test_time_outside_of_the_calendar_in_utc_is_refused(text):
    """No record of ours can hold it, so nobody could read what is written about it."""
    assert codec.epoch_ms(dt.datetime.fromisoformat("0001-01-01T00:00:00+00:00")) == codec.EARLIEST_MS
    with pytest.raises(codec.InvalidRecordError, match="before the year 1 or after 9999"):
        codec.epoch_ms(dt.datetime.fromisoformat(text))
    with pytest.raises(codec.InvalidRecordError, match="in UTC"):
        codec.all_epoch_ms([codec.EPOCH, dt.datetime.fromisoformat(text), codec.EPOCH])


@given(st.lists(st.datetimes(timezones=st.just(dt.UTC))))
def test_many_times_are_converted_as_each_alone(moments):
    assert codec.all_epoch_ms(moments) == [codec.epoch_ms(moment) for moment in moments]


def test_isolated_records_are_letters_of_the_kind_defect_and_the_others_are_left():
    found = [
        SimpleNamespace(topic="t", partition=1, offset=offset, key=b"k", value=None, headers=())
        for offset in range(3)
    ]
    sound, (letter,) = codec.split_defects("scoring", found, {1: "defect: KeyError"})
    assert sound == [found[0], found[2]]
    assert (letter.service, letter.offset, letter.reason, letter.kind) == (
        "scoring",
        1,
        "defect: KeyError",
        "defect",
    )
    assert codec.split_defects("scoring", found, {}) == (found, [])
