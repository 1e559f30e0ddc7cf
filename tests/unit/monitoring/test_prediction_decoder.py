"""Records of Kafka are decoded, or rejected with the reason."""

import dataclasses
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.drift.monitored_model import SNAPSHOTS, MonitoredModel
from services.monitoring.prediction_decoder import PredictionDecoder
from services.monitoring.row_sample import RowSample
from services.monitoring.source_ends import LEAD_MAX, SourceEnds
from services.runtime.declaration import ModelDeclaration
from streams import codec, records
from streams.inputs import LABEL, PREDICTION, PartitionKey
from streams.repeats import NEWEST_MAX
from streams.schemas import SchemaRegistryUnavailableError
from tests.unit.drift import scenario
from tests.unit.drift.scenario import HOUR_MS, START_MS

AT = "2013-01-01T02:00:00+01:00"
AT_MS = 1_357_002_000_000
NOW_MS = 1_400_000_000_000


@dataclasses.dataclass
class Message:
    value: bytes | None
    offset: int = 0
    topic: str = "t"
    partition: int = 0
    timestamp: int = AT_MS
    key: bytes | None = b"k"
    headers: codec.Headers = ()


def fed(*, labels=(), predictions=()):
    engine = scenario.new_engine()
    feed = PredictionDecoder("drift", scenario.declaration(), engine)
    feed.take_labels(labels, NOW_MS)
    feed.take_predictions(predictions, NOW_MS)
    for kind, offset in ((PREDICTION, len(predictions)), (LABEL, len(labels))):
        engine.inputs.add_heartbeat(PartitionKey(kind, 0), offset, START_MS + 2 * HOUR_MS)
    return engine, engine.inputs.take()


@pytest.mark.parametrize(("minutes", "label"), [(15, 0.0), (15.01, 1.0), (-3, 0.0)])
def test_label_is_positive_above_the_declared_value(minutes, label):
    _, (item,) = fed(labels=[Message(b'{"id": "p1", "at": "%s", "y": %a}' % (AT.encode(), minutes))])
    assert item.record == records.Label(
        prediction_id="p1",
        event_time_ms=AT_MS,
        value=label,
        source_partition=0,
        source_offset=0,
        written_time_ms=AT_MS,
    )


def test_label_over_http_is_known_by_its_header():
    value = b'{"id": "p1", "at": "%s", "y": 1}' % AT.encode()
    headers = [("other", b""), (codec.HTTP_HEADER, b"1")]
    _, items = fed(labels=[Message(value), Message(value, offset=1, headers=headers)])
    assert [item.record.is_over_http for item in items] == [False, True]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"{", "truncated"),
        (b'{"id": "p1", "y": 1}', "missing required field `at`"),
        (b'{"id": "p1", "at": "%s", "y": "1"}' % AT.encode(), "Expected `float`, got `str`"),
        (b'{"id": "p1", "at": "2013-01-01T02:00:00", "y": 1}', "timezone"),
        (
            b'{"id": "p1", "at": "2014-01-01T02:00:00Z", "y": 1}',
            "31539600.000 s ahead of the timestamp of the record; the maximum is 60 s",
        ),
    ],
)
def test_bad_label_becomes_a_dead_letter_with_its_reason(value, reason):
    _, (item,) = fed(labels=[Message(value)])
    letter = item.record
    assert isinstance(letter, records.DeadLetter)
    assert reason in letter.reason
    assert (letter.service, letter.topic, letter.value, letter.key) == ("drift", "t", value, b"k")
    assert letter.failed_time_ms == NOW_MS


TRACE = [("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")]


@pytest.mark.parametrize("restored", [False, True])
def test_the_trace_of_a_prediction_is_copied_to_its_outcome_only(restored):
    """Also after a restart between prediction and label."""
    engine = scenario.new_engine()
    engine.add_model(scenario.model_changed())
    feed = PredictionDecoder("drift", scenario.declaration(), engine)
    sent = [
        Message(
            records.encode(scenario.prediction(number, START_MS, source_offset=number)),
            offset=number,
            headers=headers,
        )
        for number, headers in enumerate([TRACE, ()])
    ]
    feed.take_predictions(sent, NOW_MS)
    for kind, offset in ((PREDICTION, 2), (LABEL, 0)):
        engine.inputs.add_heartbeat(PartitionKey(kind, 0), offset, START_MS)
    engine.advance()
    state = engine.state()
    if restored:
        state = SNAPSHOTS.decode(SNAPSHOTS.encode("m", "labels", state), "m", "labels")
    served = MonitoredModel(
        scenario.declaration(), state, cloud_events=True, decoder_for=scenario.decoder_for()
    )
    for number in range(2):
        served.engine.add_label(
            0, number + 1, scenario.label(number, START_MS + 1000, 1.0, offset=number + 1)
        )
    for kind, offset in ((PREDICTION, 3), (LABEL, 3)):
        served.engine.inputs.add_heartbeat(PartitionKey(kind, 0), offset, START_MS + HOUR_MS)
    (batch,) = served.outcome_batches(served.engine.advance()).values()
    traced, plain = (headers for _, _, headers in batch)
    assert dict(traced) == dict(plain) | {"ce_id": b"0-1"} | dict(TRACE)
    assert dict(plain)["ce_id"] == b"0-2"


@pytest.mark.parametrize("value", ["null", "NaN", '""', '"1"', "1e400"])
def test_label_without_a_number_becomes_a_dead_letter(value):
    declared = scenario.document()
    declared["label"]["schema"]["y"] = "float?"
    engine = scenario.new_engine()
    decoder = PredictionDecoder("drift", ModelDeclaration.model_validate(declared), engine)
    decoder.take_labels(
        [Message(b'{"id": "p1", "at": "%s", "y": %s}' % (AT.encode(), value.encode()))], NOW_MS
    )
    (item,) = engine.inputs.take_all()
    assert (type(item.record), item.record.kind) == (records.DeadLetter, "invalid")


def test_unexpected_error_is_a_defect_of_its_record_and_an_outage_is_raised(monkeypatch):
    engine = scenario.new_engine()
    decoder = PredictionDecoder("drift", scenario.declaration(), engine)
    errors: list[Exception] = [KeyError("x"), SchemaRegistryUnavailableError("away")]

    def fail(_):
        raise errors.pop(0)

    monkeypatch.setattr(decoder, "_decode_prediction", fail)
    decoder.take_predictions([Message(b"{}")], NOW_MS)
    with pytest.raises(SchemaRegistryUnavailableError):
        decoder.take_predictions([Message(b"{}", 1)], NOW_MS)
    for kind, offset in ((PREDICTION, 1), (LABEL, 0)):
        engine.inputs.add_heartbeat(PartitionKey(kind, 0), offset, START_MS + HOUR_MS)
    (item,) = engine.inputs.take()
    assert (item.record.kind, item.record.reason[:17]) == ("defect", "defect: KeyError:")


@pytest.mark.parametrize(
    ("field", "value"),
    [("version", 2**31), ("source_offset", 2**63), ("event_time_ms", 10**15), ("features", [10**400])],
)
def test_prediction_with_a_number_beyond_its_type_becomes_a_dead_letter(field, value):
    sent = msgspec.json.decode(records.encode(scenario.prediction(0, START_MS)))
    _, (item,) = fed(predictions=[Message(json.dumps(sent | {field: value}).encode())])
    assert f"$.{field}" in item.record.reason


def test_null_label_becomes_a_dead_letter():
    document = scenario.document()
    document["label"]["schema"]["y"] = "float?"
    declaration = type(scenario.declaration()).model_validate(document)
    engine = scenario.new_engine()
    feed = PredictionDecoder("drift", declaration, engine)
    feed.take_labels([Message(b'{"id": "p1", "at": "%s"}' % AT.encode())], NOW_MS)
    for kind in (PREDICTION, LABEL):
        engine.inputs.add_heartbeat(PartitionKey(kind, 0), 1, AT_MS)
    (item,) = engine.inputs.take()
    assert item.record.reason == "the label's value is null"


def test_neighbours_of_a_bad_record_are_decoded():
    good = b'{"id": "p1", "at": "%s", "y": 1}' % AT.encode()
    messages = [Message(good, 0), Message(b"", 1), Message(good, 2)]
    _, items = fed(labels=messages)
    assert sorted(item.offset for item in items) == [0, 1, 2]


def test_unreadable_prediction_becomes_a_dead_letter():
    _, (item,) = fed(predictions=[Message(b'{"model": "m"}')])
    assert "missing required field" in item.record.reason


def test_prediction_of_another_model_becomes_a_dead_letter():
    sent = records.encode(scenario.prediction(1, START_MS, model="other"))
    _, (item,) = fed(predictions=[Message(sent)])
    assert item.record.reason.startswith("the prediction names the model 'other', but its topic belongs to")


@pytest.mark.parametrize("source", [(1, 0), (0, -7), (-1, 0), (0, -1), (2**31 - 1, 0)])
def test_prediction_that_cannot_be_of_its_partition_becomes_a_dead_letter(source):
    forged = msgspec.structs.replace(
        scenario.prediction(1, START_MS), source_partition=source[0], source_offset=source[1]
    )
    honest = [records.encode(scenario.prediction(number, START_MS)) for number in (0, 1)]
    messages = [Message(value, offset) for offset, value in enumerate([*honest, records.encode(forged)])]
    _, items = fed(predictions=messages)
    assert [item.offset for item in items if item.kind == PREDICTION] == [0, 1]
    (letter,) = [item.record for item in items if item.kind != PREDICTION]
    assert letter.reason.endswith("which is impossible in partition 0: find the process that wrote it")


def test_a_flood_of_offsets_beyond_the_end_of_the_requests_makes_no_honest_prediction_a_repeat():
    """More than the filter of repeats remembers one by one; and the broker is seldom asked."""
    asked: list[int] = []
    written = LEAD_MAX + 300
    engine = scenario.new_engine()

    def end_of(partition: int) -> int:
        asked.append(partition)
        return written

    ends = SourceEnds("digest", end_of)
    decoder = PredictionDecoder("drift", scenario.declaration(), engine, ends=ends)
    honest = [
        msgspec.structs.replace(scenario.prediction(n, START_MS), source="digest") for n in range(written)
    ]
    forged = [
        msgspec.structs.replace(honest[0], prediction_id=f"f{n}", source_offset=10**6 + n)
        for n in range(3 * NEWEST_MAX)
    ]
    values = [records.encode(each) for each in [*honest[:100], *forged, *honest[100:]]]
    messages = [Message(value, offset) for offset, value in enumerate(values)]
    decoder.take_predictions(messages[: len(messages) // 2], NOW_MS)
    decoder.take_predictions(messages[len(messages) // 2 :], NOW_MS)
    for kind, offset in ((PREDICTION, len(messages)), (LABEL, 0)):
        engine.inputs.add_heartbeat(PartitionKey(kind, 0), offset, START_MS + 2 * HOUR_MS)
    outputs = engine.advance()
    assert engine.totals.predictions == written
    reasons = {letter.reason for letter in outputs.dead_letters}
    assert len(outputs.dead_letters) == len(forged)
    assert all(f"of request partition 0, which ends at {written}" in reason for reason in reasons)
    assert len(asked) <= 3


@pytest.mark.parametrize("kind", ["labels", "predictions"])
def test_heartbeat_that_is_no_time_becomes_a_dead_letter(kind):
    message = Message(None, headers=[(codec.HEARTBEAT_HEADER, b"1" * 5000)])
    _, (item,) = fed(**{kind: [message]})
    assert codec.HEARTBEAT_HEADER in item.record.reason


@pytest.mark.parametrize("kind", ["labels", "predictions"])
def test_nested_record_becomes_a_dead_letter(kind):
    nested = b'{"x": %s}' % (b"[" * 2000 + b"]" * 2000)
    _, (item,) = fed(**{kind: [Message(nested)]})
    assert item.record.reason == "the JSON is nested too deeply"


def test_heartbeats_move_the_watermark_and_records_without_value_or_header_do_nothing():
    engine = scenario.new_engine()
    feed = PredictionDecoder("drift", scenario.declaration(), engine)
    feed.take_labels([Message(None, 0), Message(None, 1, headers=codec.heartbeat(AT_MS))], NOW_MS)
    assert engine.watermark_ms is None
    feed.take_predictions([Message(None, 0, headers=codec.heartbeat(AT_MS + 5))], NOW_MS)
    assert engine.watermark_ms == AT_MS


NAMES = st.sampled_from([codec.HEARTBEAT_HEADER, "traceparent", "tracestate", "ce_id", ""]) | st.text(
    max_size=5
)
HEADERS = st.lists(st.tuples(NAMES, st.none() | st.binary(max_size=30)), max_size=3)


@given(
    st.none() | st.binary(max_size=60),
    HEADERS,
    st.integers(-1, 2**62),
    st.sampled_from(["labels", "predictions"]),
)
def test_any_record_is_taken_rejected_or_skipped(value, headers, timestamp, kind):
    engine = scenario.new_engine()
    decoder = PredictionDecoder("drift", scenario.declaration(), engine)
    take = decoder.take_labels if kind == "labels" else decoder.take_predictions
    take([Message(value, 0, timestamp=timestamp, headers=headers)], NOW_MS)


SAMPLE = RowSample(0.3)
ROWS = 60


def sampled_and_all(sample):
    """Return an engine that has read predictions and labels of many ids, and the items in it."""
    engine = scenario.new_engine()
    feed = PredictionDecoder("drift", scenario.declaration(), engine, sample=sample)
    times_ms = [AT_MS + 1000 * number for number in range(ROWS)]
    predictions = [scenario.prediction(number, times_ms[number]) for number in range(ROWS)]
    values = [
        b'{"id": "p%d", "at": "2013-01-01T01:00:%02dZ", "y": 1}' % (number, number) for number in range(ROWS)
    ]
    feed.take_predictions([Message(records.encode(each), n) for n, each in enumerate(predictions)], NOW_MS)
    feed.take_labels([Message(each, number) for number, each in enumerate(values)], NOW_MS)
    return engine, engine.inputs.take_all()


def test_only_the_sample_is_read_predictions_and_labels_alike():
    _, items = sampled_and_all(SAMPLE)
    _, everything = sampled_and_all(None)
    assert items == [item for item in everything if SAMPLE.includes(item.id)]
    by_kind = [[item.id for item in items if item.kind == kind] for kind in (PREDICTION, LABEL)]
    assert sorted(by_kind[0]) == sorted(by_kind[1])
    assert 0 < len(by_kind[0]) < ROWS


def test_what_is_passed_over_moves_the_time_and_the_offsets():
    sampled, everything = sampled_and_all(SAMPLE)[0], sampled_and_all(None)[0]
    assert sampled.inputs.frontier_ms == everything.inputs.frontier_ms
    resume = {source: at.offset for source, at in sampled.inputs.resume().items()}
    assert resume == {source: at.offset for source, at in everything.inputs.resume().items()}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model": "other"}, "names the model 'other'"),
        ({"source_partition": 5}, "which is impossible in partition 0"),
        ({"event_time_ms": NOW_MS + 10 * HOUR_MS}, "ahead"),
    ],
)
def test_a_bad_prediction_is_rejected_whether_it_is_in_the_sample_or_not(change, reason):
    names = [f"p{number}" for number in range(20)]
    for inside in (True, False):
        name = next(name for name in names if SAMPLE.includes(name) is inside)
        good = scenario.prediction(int(name[1:]), AT_MS)
        engine = scenario.new_engine()
        feed = PredictionDecoder("drift", scenario.declaration(), engine, sample=SAMPLE)
        bad = records.encode(msgspec.structs.replace(good, **change))
        feed.take_predictions([Message(bad), Message(b"{", 1)], NOW_MS)
        first, second = engine.inputs.take_all()
        assert reason in first.record.reason
        assert second.record.kind != "defect"
