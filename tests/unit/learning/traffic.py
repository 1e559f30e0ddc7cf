"""Traffic for the learner: labels linear in the features, predictions with and without scores."""

import dataclasses
import datetime as dt
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from river import compose, linear_model, optim, preprocessing

from services.learning import arms_update
from services.learning.arms_update import Announcement
from services.learning.intervals import LearningOutputs
from services.learning.learner import Learner
from services.learning.learner_state import LearnerState, fresh_state
from services.model_registry.model_inputs import InputKind
from services.runtime.declaration import ModelDeclaration
from streams import codec, records
from streams.feature_sets import FeatureSets
from streams.inputs import LABEL, PREDICTION, PartitionKey
from streams.producer import Record

HOUR_MS = 3_600_000
START_MS = 1_357_000_000_000 // HOUR_MS * HOUR_MS
NAMES = ("x", "colour")
KINDS = {"x": InputKind.NUMBER, "colour": InputKind.TEXT}
Log = list[Any]
"""Records of one partition, by offset: predictions, labels, heartbeats as numbers, invalid ones as bytes."""


def document(name: str = "m", **changes: Any) -> dict[str, Any]:
    """A regression that learns every two hours: what a model.yaml says."""
    declared = {
        "name": name,
        "owner": "o",
        "task": "regression",
        "request": {
            "topic": f"{name}.requests", "id": "id", "event_time": "at",
            "schema": {"id": "string", "at": "timestamp", "x": "float?", "colour": "string"},
        },
        "features": {"service": "s", "from_request": list(NAMES)},
        "label": {
            "topic": f"{name}.labels", "id": "id", "event_time": "at", "value": "y", "horizon_hours": 3,
            "schema": {"id": "string", "at": "timestamp", "y": "float"},
        },
        "learning": {"every_hours": 2, "effective_after_hours": 3, "minimum_labels": 50},
    }  # fmt: skip
    return declared | changes


def declaration(**changes: Any) -> ModelDeclaration:
    return ModelDeclaration.model_validate(document(**changes))


def estimator() -> Any:
    numbers = compose.Discard("colour") | preprocessing.StandardScaler()
    colours = compose.Discard("x") | preprocessing.OneHotEncoder(drop_zeros=True)
    return compose.TransformerUnion(numbers, colours) | linear_model.LinearRegression(optim.AdaGrad(0.5))


@dataclasses.dataclass
class Traffic:
    """Logs by partition."""

    predictions: list[Log]
    labels: list[Log]


def traffic(hours: int, *, seed: int = 1, partitions: int = 2, a_hour: int = 60, name: str = "m") -> Traffic:
    """Return requests whose label is known within two hours; the partitions depend on another seed."""
    truth, spread = random.Random(seed), random.Random(partitions)
    predictions: list[Log] = [[] for _ in range(partitions)]
    labels: list[list[Any]] = [[] for _ in range(partitions)]
    for number in range(hours * a_hour):
        time_ms = START_MS + number * HOUR_MS // a_hour
        x, colour = truth.gauss(0, 2), truth.choice(("red", "green", "blue"))
        y = 3 * x + 5 * (colour == "red") + truth.gauss(0, 1)
        missing, delay_ms = truth.random() < 0.1, truth.randrange(HOUR_MS // 4, 2 * HOUR_MS)
        features: list[Any] = [None if missing else x, colour]
        score = 3 * x + 1.0 if number > hours * a_hour // 2 else None
        home = spread.randrange(partitions)
        predictions[home].append(
            prediction(number, time_ms, features, score, home, len(predictions[home]), name)
        )
        if truth.random() < 0.95:
            labels[spread.randrange(partitions)].append((time_ms + delay_ms, number, y))
    end_ms = START_MS + (hours + 8) * HOUR_MS
    return Traffic(
        [[*log, end_ms] for log in predictions],
        [[*_labels(sorted(log), home), end_ms] for home, log in enumerate(labels)],
    )


def with_wrong_labels(logs: Traffic, hours: range) -> Traffic:
    """Return the logs with the other sign for the labels that become known in some hours."""

    def changed(record: Any) -> Any:
        if isinstance(record, int) or (record.event_time_ms - START_MS) // HOUR_MS not in hours:
            return record
        return msgspec.structs.replace(record, value=-record.value)

    return Traffic(logs.predictions, [[changed(each) for each in log] for log in logs.labels])


def prediction(
    number: int,
    time_ms: int,
    features: list[Any],
    score: float | None,
    partition: int,
    offset: int,
    name: str,
) -> records.Prediction:
    return records.Prediction(
        prediction_id=f"p{number}", model=name, version=int(score is not None), arm="champion",
        arm_weight=10_000, event_time_ms=time_ms, scored_time_ms=0, source_partition=partition,
        source_offset=offset, features=features, features_lag_ms=0, score=score, prediction=score,
    )  # fmt: skip


def _labels(log: Iterable[tuple[int, int, float]], home: int) -> list[records.Label]:
    return [
        records.Label(
            prediction_id=f"p{number}",
            event_time_ms=time_ms,
            value=y,
            source_partition=home,
            source_offset=offset,
        )
        for offset, (time_ms, number, y) in enumerate(log)
    ]


def new_learner(
    partitions: int = 2,
    state: LearnerState | None = None,
    sets: FeatureSets | None = None,
    definitions: Mapping[str, str] | None = None,
    **changes: Any,
) -> Learner:
    declared = declaration(**changes)
    fresh = fresh_state(declared.name, partitions, partitions, state)
    return Learner(declared, NAMES, estimator, fresh, sets, definitions, KINDS)


class Player:
    """Feeds logs slice by slice, from the offsets of a learner."""

    def __init__(self, logs: Traffic) -> None:
        self.logs = {PartitionKey(PREDICTION, home): log for home, log in enumerate(logs.predictions)}
        self.logs |= {PartitionKey(LABEL, home): log for home, log in enumerate(logs.labels)}
        self.done = dict.fromkeys(self.logs, 0)

    def seek(self, learner: Learner) -> None:
        """Go back to where the learner goes on."""
        self.done = {place: at.offset for place, at in learner.inputs.resume().items()}

    @property
    def open(self) -> list[PartitionKey]:
        return [place for place, log in self.logs.items() if self.done[place] < len(log)]

    def step(self, learner: Learner, place: PartitionKey, size: int) -> LearningOutputs:
        start = self.done[place]
        for offset, record in enumerate(self.logs[place][start : start + size], start):
            feed(learner, place, offset, record)
        self.done[place] = start + size
        return learner.advance()


def feed(learner: Learner, place: PartitionKey, offset: int, record: Any) -> None:
    if isinstance(record, int):
        learner.inputs.add_heartbeat(place, offset, record)
    elif isinstance(record, records.Prediction):
        learner.add_prediction(place.partition, offset, record)
    else:
        learner.add_label(place.partition, offset, record)


def play(learner: Learner, logs: Traffic, chance: random.Random | None = None) -> list[LearningOutputs]:
    """Feed everything: partition after partition, or in random slices of random partitions."""
    player, outputs = Player(logs), []
    while places := player.open:
        place = chance.choice(places) if chance else places[0]
        outputs.append(player.step(learner, place, chance.randrange(1, 40) if chance else 10**6))
    return outputs


def published(outputs: Sequence[LearningOutputs]) -> list[records.LearnedModel]:
    return [each for step in outputs for each in step.published]


def changes(
    outputs: Sequence[LearningOutputs], name: str = "m", reference: records.Reference | None = None
) -> list[records.ModelChanged]:
    """The changes of a model whose arms nobody else touches."""
    found: list[records.ModelChanged] = []
    learned = [each for step in outputs for each in step.learned]
    for each in learned:
        latest = found[-1] if found else None
        found += arms_update.changes(name, first_ms(each), [each], latest, reference)
    return found


def first_ms(learned: Announcement | records.LearnedModel) -> int:
    """Where the first interval began."""
    return learned.interval_end_ms - learned.version * 2 * HOUR_MS


def as_yaml(name: str, **changes: Any) -> str:
    return json.dumps(document(name, **changes))  # JSON is YAML


def columns(numbers: Sequence[float | None], colours: Sequence[str]) -> dict[str, Any]:
    """Return the inputs of a model, as scoring passes them."""
    return {"x": np.array(numbers, dtype=np.float64), "colour": np.array(colours, dtype=object)}


def kafka_record(record: Any) -> Record:
    """Encode a record as applications do: key, value, headers; an integer is a heartbeat."""
    if isinstance(record, int):
        return None, None, codec.heartbeat(record)
    if isinstance(record, records.Prediction):
        return record.prediction_id.encode(), records.encode(record), []
    moment = dt.datetime.fromtimestamp(record.event_time_ms / 1000, dt.UTC).isoformat()
    value = {"id": record.prediction_id, "at": moment, "y": record.value}
    return record.prediction_id.encode(), json.dumps(value).encode(), []


def utc(time_ms: int) -> str:
    return (codec.EPOCH + time_ms * codec.MILLISECOND).isoformat()
