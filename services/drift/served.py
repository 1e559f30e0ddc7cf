"""One model in the running process: its engine with its inputs, its metrics and the pace of its snapshots."""

from collections import defaultdict

from services import model
from services.drift.engine import Engine, Outputs, State
from services.drift.observing import Observer
from services.feed import Feed
from services.joined import Source
from services.snapshots import SnapshotPace, Snapshots
from streams import records, topics
from streams.producer import Record

SNAPSHOTS = Snapshots(State, 1)


class ServedModel:
    """One model with all that belongs to it."""

    def __init__(self, declaration: model.ModelDeclaration, state: State) -> None:
        """Go on from a state."""
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
        self.observer = Observer(self.engine)
        self.pace = SnapshotPace()
        self.watermark_ms: int | None = None
        """Processed, acknowledged, and not yet published if it is above ``published_ms``."""
        self.published_ms: int | None = None

    def outcome_batches(self, outputs: Outputs) -> dict[tuple[str, int], list[Record]]:
        """Encode the outcomes, each into its label's partition number."""
        return {
            (self.outcomes_topic, partition): [
                (outcome.prediction_id.encode(), records.encode(outcome), []) for outcome in outcomes
            ]
            for partition, outcomes in outputs.outcomes.items()
        }

    def snapshot(self) -> bytes:
        """Encode the state."""
        return SNAPSHOTS.encode(self.name, self.label_topic, self.engine.state())


def dead_letter_batches(outputs: Outputs) -> dict[tuple[str, int], list[Record]]:
    """Encode the records that could not be read."""
    batches: dict[tuple[str, int], list[Record]] = defaultdict(list)
    for letter in outputs.dead_letters:
        batches[topics.DEAD_LETTERS.name, 0].append((letter.topic.encode(), records.encode(letter), []))
    return batches
