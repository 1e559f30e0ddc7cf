"""One model in the running process: its engine with its feed, its metrics and the pace of its snapshots."""

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence

from services import model
from services.drift import snapshots
from services.drift.engine import Engine, Outputs, State
from services.drift.feed import Feed
from services.drift.inputs import PREDICTION
from services.drift.observing import Observer
from streams import records, topics
from streams.cloud_events import Envelope, Header
from streams.producer import Record

SNAPSHOT_SECONDS_MIN = 2.0
"""Between snapshots at the ends of windows, in a replay that closes many a second."""
SNAPSHOT_SECONDS_MAX = 15.0
"""Between snapshots within a long window: what a restart has to do again."""
SNAPSHOT_SHARE_MAX = 0.03
"""Of the time: a large state is kept less often."""


@dataclasses.dataclass
class SnapshotPace:
    """When the next snapshot is due: soon after a window has closed, and never too much of the time."""

    taken_seconds: float = 0.0
    """Monotonic."""
    cost_seconds: float = 0.0
    progressed: bool = False
    window_closed: bool = False

    def note(self, outputs: Outputs) -> None:
        """Take notice of one step of the engine."""
        self.progressed = True
        self.window_closed |= outputs.windows_closed > 0

    def due(self, now_seconds: float) -> bool:
        """Tell whether a snapshot should be taken now."""
        wait_seconds = SNAPSHOT_SECONDS_MIN if self.window_closed else SNAPSHOT_SECONDS_MAX
        wait_seconds = max(wait_seconds, self.cost_seconds / SNAPSHOT_SHARE_MAX)
        return self.progressed and now_seconds - self.taken_seconds >= wait_seconds

    def taken(self, started_seconds: float, ended_seconds: float) -> None:
        """Take notice of a snapshot."""
        self.taken_seconds = ended_seconds
        self.cost_seconds = ended_seconds - started_seconds
        self.progressed = self.window_closed = False


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
        self.feed = Feed(declaration, self.engine)
        self.observer = Observer(self.engine)
        self.pace = SnapshotPace()
        self._envelope = Envelope("drift", declaration.name, enabled=cloud_events)
        self.watermark_ms: int | None = None
        """Processed, acknowledged, and not yet published if it is above ``published_ms``."""
        self.published_ms: int | None = None

    def topic_of(self, kind: int) -> str:
        """Name the topic of an input."""
        return self.predictions_topic if kind == PREDICTION else self.label_topic

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
        return snapshots.encode(self.name, self.label_topic, self.engine.state())


def dead_letter_batches(outputs: Outputs) -> dict[tuple[str, int], list[Record]]:
    """Encode the records that could not be read."""
    batches: dict[tuple[str, int], list[Record]] = defaultdict(list)
    for letter in outputs.dead_letters:
        batches[topics.DEAD_LETTERS.name, 0].append((letter.topic.encode(), records.encode(letter), []))
    return batches
