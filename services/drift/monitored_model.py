"""One model in the running process: its engine with its inputs, its metrics and the pace of its snapshots."""

from collections.abc import Mapping, Sequence

from services.drift.drift_metrics import DriftMetrics
from services.drift.drift_state import DriftState
from services.drift.engine import DriftOutputs, Engine
from services.monitoring.pending_predictions import PendingPredictions
from services.monitoring.prediction_decoder import DecoderFor
from services.monitoring.prediction_source import WatermarkPublisher, direct_source
from services.runtime import metrics
from services.runtime.declaration import ModelDeclaration
from services.runtime.quarantine import Care
from services.runtime.snapshots import SnapshotPace, Snapshots
from streams import records, topics
from streams.cloud_events import Envelope, Header
from streams.inputs import PREDICTION, Item
from streams.producer import Record

SNAPSHOTS = Snapshots(DriftState, 3)
"""Reads and writes snapshots of the drift state, in format 3."""


class MonitoredModel:
    """One model with its engine, its source, its topics and its metrics."""

    def __init__(
        self,
        declaration: ModelDeclaration,
        state: DriftState,
        *,
        cloud_events: bool,
        decoder_for: DecoderFor,
        care: Care | None = None,
        pending: PendingPredictions | None = None,
    ) -> None:
        """Continue from a state.

        Args:
            declaration: The model's.
            state: See `starting_state`.
            cloud_events: Whether records get headers of CloudEvents.
            decoder_for: Makes the decoder of predictions and labels.
            care: How carefully rows are counted, if one of them is suspected to be a defect.
            pending: The predictions that wait, on disk too; by default those of the state.
        """
        self.name = declaration.name
        self.key = declaration.name.encode()
        self.predictions_topic = topics.predictions(declaration.name)
        self.outcomes_topic = topics.outcomes(declaration.name)
        self.label_topic = declaration.label.topic
        self.engine = Engine(declaration, state, care, pending)
        inputs, decoder = self.engine.inputs, decoder_for(self.engine)
        self.source = direct_source(self.predictions_topic, self.label_topic, inputs, decoder)
        self.metrics = DriftMetrics(self.engine, declaration)
        self.pace = SnapshotPace()
        self._envelope = Envelope("drift", declaration.name, enabled=cloud_events)
        self.retraining_waits_for: str | None = None
        """Why the last window with harm has requested no retraining; it is logged when it changes."""
        self.watermark_ms: int | None = None
        """Event time up to which all outputs are acknowledged."""
        self.watermark_publisher = WatermarkPublisher("drift", declaration.name, metrics.DRIFT_WATERMARK)

    @property
    def frontier_ms(self) -> int:
        """The event time up to which the engine processes."""
        return self.engine.inputs.frontier_ms

    def suspects(self) -> list[Item]:
        """Return the records that were in process at an error of the engine."""
        return self.engine.suspects()

    def close(self) -> None:
        """Close the files of the predictions that wait, and remove the series of active alarms."""
        self.metrics.close()
        self.engine.pending_predictions.close()

    def topic_of(self, kind: int) -> str:
        """Return the topic of the predictions or of the labels."""
        return self.predictions_topic if kind == PREDICTION else self.label_topic

    def outcome_batches(self, outputs: DriftOutputs) -> dict[tuple[str, int], list[Record]]:
        """Encode the outcomes, by topic and partition: each goes to the partition number of its label."""
        return {
            (self.outcomes_topic, partition): self._encode_outcomes(outcomes, outputs.traces)
            for partition, outcomes in outputs.outcomes.items()
        }

    def _encode_outcomes(
        self, outcomes: Sequence[records.Outcome], traces: Mapping[tuple[int, int], list[Header]]
    ) -> list[Record]:
        sources = [(outcome.source_partition, outcome.source_offset) for outcome in outcomes]
        headers = self._envelope.bulk(records.Outcome, sources)
        if traces:
            headers = (
                [*common, *traces.get(source, ())] for common, source in zip(headers, sources, strict=False)
            )
        return [
            (outcome.prediction_id.encode(), records.encode(outcome), each)
            for outcome, each in zip(outcomes, headers, strict=False)
        ]

    def encode(self, record: records.DriftRecord | records.RetrainingRequested) -> Record:
        """Encode a report, an alarm or a request, with the model's name as its key."""
        return self.key, records.encode(record), self._envelope.headers(record)

    def snapshot(self) -> bytes:
        """Encode the state."""
        return SNAPSHOTS.encode(self.name, self.label_topic, self.engine.state())
