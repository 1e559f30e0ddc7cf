"""One model in the running process: its engine with its inputs, its metrics and the pace of its snapshots."""

from collections.abc import Mapping, Sequence

from services import model, telemetry
from services.drift.engine import Engine, Outputs, State
from services.drift.observing import Observer
from services.feed import Feed
from services.joined import PublicWatermark, Source
from services.snapshots import SnapshotPace, Snapshots
from streams import records, topics
from streams.cloud_events import Envelope, Header
from streams.producer import Record

SNAPSHOTS = Snapshots(State, 3)


class ServedModel:
    """One model with all that belongs to it."""

    def __init__(self, declaration: model.ModelDeclaration, state: State, *, cloud_events: bool) -> None:
        """Go on from a state; what is written has headers of CloudEvents, or none."""
        self.name = declaration.name
        self.key = declaration.name.encode()
        self.predictions_topic = topics.predictions(declaration.name)
        self.outcomes_topic = topics.outcomes(declaration.name)
        self.label_topic = declaration.label.topic
        self.engine = Engine(declaration, state)
        self.source = Source(
            self.predictions_topic,
            self.label_topic,
            self.engine.inputs,
            Feed("drift", declaration, self.engine),
        )
        self.observer = Observer(self.engine, declaration)
        self.pace = SnapshotPace()
        self._envelope = Envelope("drift", declaration.name, enabled=cloud_events)
        self.watermark_ms: int | None = None
        """Processed and acknowledged."""
        self.public_watermark = PublicWatermark("drift", declaration.name, telemetry.DRIFT_WATERMARK)

    def outcome_batches(self, outputs: Outputs) -> dict[tuple[str, int], list[Record]]:
        """Encode the outcomes, each into its label's partition number."""
        return {
            (self.outcomes_topic, partition): self._outcomes(outcomes, outputs.traces)
            for partition, outcomes in outputs.outcomes.items()
        }

    def _outcomes(
        self, outcomes: Sequence[records.Outcome], traces: Mapping[tuple[int, int], list[Header]]
    ) -> list[Record]:
        places = [(outcome.source_partition, outcome.source_offset) for outcome in outcomes]
        headers = self._envelope.bulk(records.Outcome, places)
        if traces:
            headers = ([*own, *traces.get(place, ())] for own, place in zip(headers, places, strict=False))
        return [
            (outcome.prediction_id.encode(), records.encode(outcome), own)
            for outcome, own in zip(outcomes, headers, strict=False)
        ]

    def about(self, record: records.DriftRecord | records.RetrainingRequested) -> Record:
        """Encode a report, an alarm or a request."""
        return self.key, records.encode(record), self._envelope.headers(record)

    def snapshot(self) -> bytes:
        """Encode the state."""
        return SNAPSHOTS.encode(self.name, self.label_topic, self.engine.state())
