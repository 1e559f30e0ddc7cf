"""One model in the running process: what it writes, and where its snapshot goes on."""

import zlib

import msgspec

from services.drift.drift_state import starting_state
from services.drift.engine import DriftOutputs
from services.drift.monitored_model import SNAPSHOTS, MonitoredModel
from streams import records, topics
from tests.unit.drift import scenario


def new_model(*, cloud_events=False, state=None):
    declaration = scenario.declaration()
    return MonitoredModel(
        declaration,
        starting_state(declaration, 2, 2, state),
        cloud_events=cloud_events,
        decoder_for=scenario.decoder_for(),
    )


def outcome(offset, partition=0):
    return records.Outcome(
        prediction_id=f"p{offset}", model="m", version=1, arm="champion", event_time_ms=0, label_time_ms=1,
        source_partition=partition, source_offset=offset, label=1.0, score=0.5, loss=0.7, shadow_scores={},
    )  # fmt: skip


def test_outcomes_go_to_the_partition_number_of_their_label():
    outputs = DriftOutputs(outcomes={0: [outcome(1)], 1: [outcome(5, partition=1)]})
    batches = new_model().outcome_batches(outputs)
    assert sorted(batches) == [(topics.outcomes("m"), 0), (topics.outcomes("m"), 1)]
    ((key, value, headers),) = batches[topics.outcomes("m"), 1]
    assert (key, headers) == (b"p5", [])
    assert records.decoder_of(records.Outcome).decode(value) == outcome(5, partition=1)


def test_a_traced_outcome_carries_the_headers_of_its_trace():
    trace = [("traceparent", b"00-1-2-01")]
    outputs = DriftOutputs(outcomes={0: [outcome(1), outcome(2)]}, traces={(0, 2): trace})
    (batch,) = new_model(cloud_events=True).outcome_batches(outputs).values()
    plain, traced = (dict(headers) for _, _, headers in batch)
    assert "traceparent" not in plain
    assert traced["traceparent"] == b"00-1-2-01"
    assert traced["ce_id"] == b"0-2"


def test_reports_and_requests_have_the_key_of_their_model():
    request = records.RetrainingRequested(
        request_id="r", model="m", trigger="drift", requested_at_ms=1, reason="r"
    )
    key, value, _ = new_model().encode(request)
    assert key == b"m"
    assert records.decoder_of(records.RetrainingRecord).decode(value) == request


def test_it_reads_predictions_and_labels():
    source = new_model().source
    assert (source.predictions_topic, source.label_topic) == (topics.predictions("m"), "m.labels")


def test_a_snapshot_with_the_positions_of_older_versions_in_slices_is_read():
    document = msgspec.msgpack.decode(zlib.decompress(new_model().snapshot()))
    document["state"] |= {"prediction_slices": [7, 2], "label_slices": [0, 0]}
    older = zlib.compress(msgspec.msgpack.encode(document))
    state = SNAPSHOTS.decode(older, "m", "m.labels")
    assert SNAPSHOTS.decode(new_model(state=state).snapshot(), "m", "m.labels").read_to == [0, 0]
