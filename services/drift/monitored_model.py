"""One model in the running process: its engine with its inputs, its metrics and the pace of its snapshots."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from services.drift.drift_metrics import DriftMetrics
from services.drift.engine import DriftOutputs, DriftState, Engine
from services.drift.gathered_slices import SliceFeed
from services.monitoring.pending_predictions import PendingPredictions
from services.monitoring.prediction_decoder import DecoderFor
from services.monitoring.prediction_source import PredictionSource, WatermarkPublisher, direct_source
from services.runtime import metrics
from services.runtime.declaration import ModelDeclaration
from services.runtime.quarantine import Care, Rejected
from services.runtime.snapshots import SnapshotPace, Snapshots
from streams import records, topics
from streams.cloud_events import Envelope, Header
from streams.inputs import LABEL, PREDICTION, Item, PartitionKey, by_partition, in_order
from streams.producer import Record

SNAPSHOTS = Snapshots(DriftState, 3)
"""Reads and writes snapshots of the drift state, in format 3."""


class GatheredSource:
    """The slices of one model, and how far they were read; a state keeps the positions in any case."""

    def __init__(
        self,
        declaration: ModelDeclaration,
        engine: Engine,
        state: DriftState,
        rejected: Rejected = MappingProxyType({}),
    ) -> None:
        """Continue from a state."""
        self._model = model = declaration.name
        self._inputs = engine.inputs
        positions = by_partition(state.prediction_slices, state.label_slices)
        resume = engine.inputs.resume()
        sources = {PREDICTION: topics.predictions(model), LABEL: declaration.label.topic}
        self._feed = SliceFeed(sources, engine, resume, dict.fromkeys(resume, 0) | positions, rejected)

    def source(self) -> PredictionSource:
        """Return the source that reads the slices."""
        return PredictionSource(
            topics.prediction_slices(self._model),
            topics.label_slices(self._model),
            self._inputs,
            self._feed,
            self._positions,
        )

    def write_positions(self, state: DriftState) -> None:
        """Write into a state where reading continues."""
        state.prediction_slices, state.label_slices = in_order(self._positions())

    def _positions(self) -> dict[PartitionKey, int]:
        return self._feed.positions(self._inputs.resume())


class MonitoredModel:
    """One model with its engine, its source, its topics and its metrics."""

    def __init__(
        self,
        declaration: ModelDeclaration,
        state: DriftState,
        *,
        cloud_events: bool,
        decoder_for: DecoderFor,
        gathered: bool = False,
        care: Care | None = None,
        rejected: Rejected = MappingProxyType({}),
        pending: PendingPredictions | None = None,
    ) -> None:
        """Continue from a state.

        Args:
            declaration: The model's.
            state: See `starting_state`.
            cloud_events: Whether records get headers of CloudEvents.
            decoder_for: Makes the decoder of predictions and labels.
            gathered: Read the slices that gathering workers write, instead of predictions and labels.
            care: How carefully rows are counted, if one of them is suspected to be a defect.
            rejected: Slices leave out these records, which are rejected as defects; with the reasons.
            pending: The predictions that wait, on disk too; by default those of the state.
        """
        self.name = declaration.name
        self.key = declaration.name.encode()
        self.predictions_topic = topics.predictions(declaration.name)
        self.outcomes_topic = topics.outcomes(declaration.name)
        self.label_topic = declaration.label.topic
        self.engine = Engine(declaration, state, care, pending)
        self._gathered = GatheredSource(declaration, self.engine, state, rejected)
        if gathered:
            self.source = self._gathered.source()
        else:
            inputs, decoder = self.engine.inputs, decoder_for(self.engine)
            self.source = direct_source(self.predictions_topic, self.label_topic, inputs, decoder)
        self.metrics = DriftMetrics(self.engine, declaration)
        self.pace = SnapshotPace()
        self._envelope = Envelope("drift", declaration.name, enabled=cloud_events)
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
        """Close the files of the predictions that wait."""
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
        state = self.engine.state()
        self._gathered.write_positions(state)
        return SNAPSHOTS.encode(self.name, self.label_topic, state)
