"""A small model for tests of drift, and traffic with a chosen shift, as logs of partitions."""

import dataclasses
import datetime as dt
import functools
import json
import random
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np

from services.drift.drift_state import DriftState, starting_state
from services.drift.engine import DriftOutputs, Engine
from services.monitoring.prediction_decoder import DecoderFor, PredictionDecoder, PredictionSink
from services.monitoring.rank_correlation import Moments, RankScorer
from services.runtime.declaration import ModelDeclaration
from streams import codec, records
from streams.inputs import LABEL, PREDICTION, PartitionKey
from streams.producer import Record

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
START_MS = 1_357_000_000_000 // HOUR_MS * HOUR_MS
COLOURS = ("red", "green", "blue")


def declaration(name: str = "m", **monitoring: Any) -> ModelDeclaration:
    """Return the declaration of `document`."""
    return ModelDeclaration.model_validate(document(name, **monitoring))


def decoder_for(name: str = "m") -> DecoderFor:
    """Return what makes the decoder of drift."""
    return functools.partial(PredictionDecoder, "drift", declaration(name))


def document(name: str = "m", **monitoring: Any) -> dict[str, Any]:
    """Return the content of a model.yaml: hourly windows, labels within three hours."""
    retraining = {
        "cooldown_days": monitoring.pop("cooldown_hours", 6) / 24,
        "minimum_labels": monitoring.pop("minimum_labels", 50),
    }
    return {
        "name": name,
        "owner": "o",
        "task": "binary",
        "request": {
            "topic": f"{name}.requests",
            "id": "id",
            "event_time": "at",
            "schema": {"id": "string", "at": "timestamp", "x": "float", "colour": "string?"},
        },
        "features": {"service": "s", "from_request": ["x", "colour"]},
        "label": {
            "topic": f"{name}.labels",
            "id": "id",
            "event_time": "at",
            "value": "y",
            "positive_above": 15,
            "horizon_hours": 3,
            "schema": {"id": "string", "at": "timestamp", "y": "float"},
        },
        "monitoring": {"window_hours": 1, "alarm_windows": 2, "loss_windows": 3, "loss_tolerance": 0.1}
        | monitoring,
        "retraining": retraining,
        "gates": {"floor": 1},
    }


def reference(version: int = 1, log_loss: float = 0.58) -> records.Reference:
    """Return a reference: x standard normal in ten bins, three colours, scores uniform in [0.1, 0.9]."""
    edges = [-1.2816, -0.8416, -0.5244, -0.2533, 0.0, 0.2533, 0.5244, 0.8416, 1.2816]
    features = [
        records.FeatureReference(
            feature="x",
            counts=[1000] * 10,
            missing=100,
            edges=edges,
            segments={
                "colour=red": [500] * 10 + [50],
                "colour=green": [300] * 10 + [30],
                "colour=blue": [200] * 10 + [20],
            },
        ),
        records.FeatureReference(
            feature="colour",
            counts=[5000, 3000, 2000],
            missing=0,
            categories=list(COLOURS),
        ),
    ]
    return records.Reference(
        version=version,
        features=features,
        pairs=_unrelated(features),
        score=records.FeatureReference(feature="score", counts=[2500] * 4, missing=0, edges=[0.3, 0.5, 0.7]),
        log_loss=log_loss,
    )


def _unrelated(features: list[records.FeatureReference]) -> records.PairReference:
    """Return the relation of x and colour where they are independent."""
    scorers = [RankScorer(each) for each in features]
    cells = [(x, colour) for x in range(10) for colour, rows in enumerate((50, 30, 20)) for _ in range(rows)]
    columns = zip(*cells, strict=True)
    moments = Moments.none(2)
    moments.add(
        np.stack(
            [
                scorer.scores(np.array(column), np.zeros(len(cells), dtype=np.int64))
                for scorer, column in zip(scorers, columns, strict=True)
            ],
            axis=1,
        )
    )
    return moments.reference()


def model_changed(
    version: int = 1, log_loss: float = 0.58, name: str = "m", from_ms: int = 0
) -> records.ModelChanged:
    """Return the change that makes a version the champion from an event time on."""
    return records.ModelChanged(
        model=name,
        arms=[records.Arm(name="champion", version=version, weight=10_000, effective_from_ms=from_ms)],
        changed_at_ms=START_MS,
        reason="test",
        reference=reference(version, log_loss),
    )


def prediction(number: int, time_ms: int, *, version: int = 1, **values: Any) -> records.Prediction:
    given = {
        "features": [0.0, "red"],
        "score": 0.4 if version else None,
        "prediction": 0 if version else None,
        "arm": "champion",
        "arm_weight": 10_000,
        "source_partition": 0,
        "source_offset": number,
        "model": "m",
        "shadow_scores": {"frozen": 0.5} if version else {},
    } | values
    return records.Prediction(
        prediction_id=f"p{number}",
        version=version,
        event_time_ms=time_ms,
        scored_time_ms=0,
        features_lag_ms=0,
        **given,
    )


def label(number: int, time_ms: int, value: float, *, partition: int = 0, offset: int | None = None):
    return records.Label(
        prediction_id=f"p{number}",
        event_time_ms=time_ms,
        value=value,
        source_partition=partition,
        source_offset=number if offset is None else offset,
    )


@dataclasses.dataclass(frozen=True)
class Entry:
    """One record of a partition: a prediction, a label, a heartbeat (its time in ms), or invalid bytes."""

    offset: int
    record: records.Prediction | records.Label | int | bytes


@dataclasses.dataclass(frozen=True)
class Traffic:
    """The logs of predictions and of labels, by partition."""

    predictions: list[list[Entry]]
    labels: list[list[Entry]]


def traffic(
    hours: int,
    *,
    seed: int = 1,
    partitions: int = 2,
    a_hour: int = 60,
    shift_at: int = 10**9,
    name: str = "m",
):
    """Make the traffic of a calibrated model; from hour ``shift_at`` x is shifted and labels are random."""
    chance = random.Random(seed)
    predictions: list[list[Any]] = [[] for _ in range(partitions)]
    labels: list[list[Any]] = [[] for _ in range(partitions)]
    for number in range(hours * a_hour):
        time_ms = START_MS + number * HOUR_MS // a_hour
        broken = number // a_hour >= shift_at
        score = chance.uniform(0.1, 0.9)
        x = chance.gauss(2.0 if broken else 0.0, 1.0)
        colour = chance.choices(COLOURS, (5, 3, 2))[0]
        truth = float(chance.random() < (0.5 if broken else score))
        home = chance.randrange(partitions)
        predictions[home].append((time_ms, number, [x, colour], score))
        if chance.random() < 0.95:
            delay_ms = chance.randrange(HOUR_MS // 4, 2 * HOUR_MS)
            labels[chance.randrange(partitions)].append((time_ms + delay_ms, number, truth))
    end_ms = START_MS + (hours + 6) * HOUR_MS
    return Traffic(
        [_prediction_log(name, log, home, end_ms) for home, log in enumerate(predictions)],
        [_label_log(sorted(log), home, end_ms) for home, log in enumerate(labels)],
    )


def numbered(log: Iterable[Any]) -> list[Entry]:
    """Return entries with rising offsets."""
    return [Entry(offset, record) for offset, record in enumerate(log)]


def _prediction_log(name: str, log: Sequence[Any], home: int, end_ms: int) -> list[Entry]:
    made = [
        prediction(
            number, time_ms, model=name, features=features, score=score, prediction=int(score > 0.5),
            source_partition=home, source_offset=offset,
        )
        for offset, (time_ms, number, features, score) in enumerate(log)
    ]  # fmt: skip
    return numbered([*made, end_ms])


def _label_log(log: Sequence[Any], home: int, end_ms: int) -> list[Entry]:
    made = [
        label(number, time_ms, truth, partition=home, offset=offset)
        for offset, (time_ms, number, truth) in enumerate(log)
    ]
    return numbered([*made, end_ms])


def with_label_offsets(log: Iterable[Any]) -> list[Entry]:
    """Return entries of a label partition; each label has its offset as its source offset, too."""
    return [
        Entry(offset, msgspec.structs.replace(record, source_offset=offset))
        if isinstance(record, records.Label)
        else Entry(offset, record)
        for offset, record in enumerate(log)
    ]


def new_engine(
    model: ModelDeclaration | None = None, partitions: int = 1, state: DriftState | None = None
) -> Engine:
    model = model or declaration()
    engine = Engine(model, starting_state(model, partitions, partitions, state))
    engine.add_model(model_changed(name=model.name))
    return engine


class EngineFeeder:
    """An engine with one partition of each input, fed in order; times are minutes after `START_MS`."""

    def __init__(self, **monitoring):
        self.engine = new_engine(declaration(**monitoring))
        self.offsets = {PREDICTION: 0, LABEL: 0}

    def _offset(self, kind):
        self.offsets[kind] += 1
        return self.offsets[kind] - 1

    def predict(self, number, minutes, **values):
        offset = self._offset(PREDICTION)
        values = {"source_offset": offset} | values
        record = prediction(number, START_MS + round(minutes * MINUTE_MS), **values)
        self.engine.add_prediction(0, offset, record)

    def label(self, number, minutes, value):
        offset = self._offset(LABEL)
        record = label(number, START_MS + round(minutes * MINUTE_MS), value, offset=offset)
        self.engine.add_label(0, offset, record)

    def until(self, minutes):
        """Send a heartbeat to both partitions and advance the engine to it."""
        for kind in (PREDICTION, LABEL):
            partition = PartitionKey(kind, 0)
            self.engine.inputs.add_heartbeat(
                partition, self._offset(kind), START_MS + round(minutes * MINUTE_MS)
            )
        return self.engine.advance()


def feed(engine: PredictionSink, kind: int, partition: int, entries: Iterable[Entry]) -> None:
    """Add entries of one partition to an engine or another sink."""
    for entry in entries:
        record = entry.record
        if isinstance(record, int):
            engine.inputs.add_heartbeat(PartitionKey(kind, partition), entry.offset, record)
        elif isinstance(record, records.Prediction):
            engine.add_prediction(partition, entry.offset, record)
        elif isinstance(record, records.Label):
            engine.add_label(partition, entry.offset, record)
        else:
            letter = records.DeadLetter(
                service="drift", reason="", topic="", partition=partition, offset=entry.offset,
                key=None, value=record, failed_time_ms=0,
            )  # fmt: skip
            engine.inputs.reject(PartitionKey(kind, partition), entry.offset, letter)


def merge(parts: Iterable[DriftOutputs]) -> DriftOutputs:
    """Return the outputs of several steps as one."""
    whole = DriftOutputs()
    for part in parts:
        for partition, outcomes in part.outcomes.items():
            whole.outcomes.setdefault(partition, []).extend(outcomes)
        whole.drift += part.drift
        whole.requests += part.requests
        whole.dead_letters += part.dead_letters
        whole.windows_closed += part.windows_closed
    return whole


class Player:
    """Feeds logs slice by slice, from the offsets at which an engine continues."""

    def __init__(self, logs: Traffic) -> None:
        self.logs = {(PREDICTION, home): log for home, log in enumerate(logs.predictions)}
        self.logs |= {(LABEL, home): log for home, log in enumerate(logs.labels)}
        self.done = dict.fromkeys(self.logs, 0)

    def seek(self, engine: Engine) -> None:
        """Go back to the offsets at which the engine continues."""
        self.done = {(place.kind, place.partition): at.offset for place, at in engine.inputs.resume().items()}

    @property
    def open(self) -> list[tuple[int, int]]:
        """Partitions with records that were not fed yet."""
        return [place for place, log in self.logs.items() if self.done[place] < len(log)]

    def step(self, engine: Engine, place: tuple[int, int], size: int) -> DriftOutputs:
        """PredictionDecoder one slice and advance."""
        start = self.done[place]
        feed(engine, *place, self.logs[place][start : start + size])
        self.done[place] = start + size
        return engine.advance()


def play(engine: Engine, logs: Traffic, chance: random.Random | None = None) -> DriftOutputs:
    """PredictionDecoder everything: partition after partition, or in random slices of random partitions."""
    player, outputs = Player(logs), []
    while places := player.open:
        place = chance.choice(places) if chance else places[0]
        outputs.append(player.step(engine, place, chance.randrange(1, 40) if chance else 10**6))
    return merge(outputs)


def reports(outputs: DriftOutputs) -> list[records.DriftReport]:
    return [record for record in outputs.drift if isinstance(record, records.DriftReport)]


def latest(outputs: DriftOutputs) -> list[records.DriftReport]:
    """Return the latest revision of each report."""
    return list({report.report_id: report for report in reports(outputs)}.values())


def identity(record: records.DriftRecord) -> tuple[str, int]:
    """Return an id that equals only that of a repeat."""
    if isinstance(record, records.DriftAlarm):
        return record.alarm_id, 0
    return f"{type(record).__name__} {record.report_id}", record.revision


def alarms(outputs: DriftOutputs) -> list[records.DriftAlarm]:
    return [record for record in outputs.drift if isinstance(record, records.DriftAlarm)]


def label_bytes(number: int, time_ms: int, minutes: float) -> bytes:
    """Return a label as an application writes it."""
    moment = dt.datetime.fromtimestamp(time_ms / 1000, dt.UTC)
    return json.dumps({"id": f"p{number}", "at": moment.isoformat(), "y": minutes}).encode()


def kafka_record(record: records.Prediction | records.Label | int | bytes) -> Record:
    """Encode an entry as applications do: key, value, headers."""
    if isinstance(record, int):
        return None, None, codec.heartbeat(record)
    if isinstance(record, records.Prediction):
        return record.prediction_id.encode(), records.encode(record), []
    if isinstance(record, records.Label):
        moment = dt.datetime.fromtimestamp(record.event_time_ms / 1000, dt.UTC).isoformat()
        value = {"id": record.prediction_id, "at": moment, "y": 30.0 if record.value else 0.0}
        return record.prediction_id.encode(), json.dumps(value).encode(), []
    return b"any", record, []
