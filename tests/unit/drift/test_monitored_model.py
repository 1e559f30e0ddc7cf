"""One model in the running process: what it writes, and where its snapshot goes on."""

import msgspec

from services.drift.engine import DriftOutputs, starting_state
from services.drift.gathered_slices import Slicer
from services.drift.monitored_model import SNAPSHOTS, MonitoredModel
from streams import records, topics
from streams.inputs import PREDICTION, PartitionKey
from tests.unit.drift import scenario
from tests.unit.drift.memory_kafka import Message


def new_model(*, cloud_events=False, gathered=False, state=None):
    declaration = scenario.declaration()
    return MonitoredModel(
        declaration,
        starting_state(declaration, 2, 2, state),
        cloud_events=cloud_events,
        decoder_for=scenario.decoder_for(),
        gathered=gathered,
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


def test_it_reads_predictions_and_labels_or_their_slices():
    direct, gathered = new_model(), new_model(gathered=True)
    assert (direct.source.predictions_topic, direct.source.label_topic) == (
        topics.predictions("m"),
        "m.labels",
    )
    assert (gathered.source.predictions_topic, gathered.source.label_topic) == (
        topics.prediction_slices("m"),
        topics.label_slices("m"),
    )


def test_a_snapshot_keeps_the_positions_in_slices_for_a_process_that_reads_directly():
    gathered = new_model(gathered=True)
    slicer = Slicer()
    slicer.add_prediction(0, 0, scenario.prediction(0, scenario.START_MS))
    slicer.add_heartbeat(PartitionKey(PREDICTION, 0), 1, scenario.START_MS + 1)
    (value,) = slicer.take_slices(PREDICTION, 0, 2)
    gathered.source.handler.take_predictions([Message("s", 0, 6, value)], 0)
    state = SNAPSHOTS.decode(gathered.snapshot(), "m", "m.labels")
    assert state.prediction_slices == [0, 0], "its records are not processed yet"
    direct = new_model(state=msgspec.structs.replace(state, prediction_slices=[7, 2]))
    assert SNAPSHOTS.decode(direct.snapshot(), "m", "m.labels").prediction_slices == [7, 2]
