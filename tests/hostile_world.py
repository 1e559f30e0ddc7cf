"""An installation whose topics get hostile records: features, three models, and what they read and write.

Model ``a`` has a registered version, ``b`` reads Avro and collects only, ``c`` learns online.
"""

import asyncio
import contextlib
import dataclasses
import io
import json
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import fastavro
from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from services.operations.local_servers import kafka as local_kafka
from services.operations.local_servers import ports
from services.operations.local_servers.supervisor import Supervisor
from services.runtime import times
from services.runtime.settings import Settings
from streams import records, topics
from streams.json_decoder import InvalidRecordError
from tests.hostile_records import (
    DAY_MS,
    JSON_SCHEMA,
    MIB,
    OTHER_SCHEMA,
    Fate,
    Json,
    RawName,
    Record,
    Shape,
    encoded,
)
from tests.repositories import write_shop
from tests.servers import Server
from tests.shop import read_topic, stamp

PARTITIONS = 2
MODELS = ("a", "b", "c")
SHOPS = {"mill": 0, "dock": 1, "hill": 1}
"""The partition of each shop in the topics whose key is the shop."""

DEFINITIONS = """
from feast.data_format import AvroFormat

sales = KafkaSource(
    name="sales", topic="PREFIX.sales", timestamp_field="at",
    message_format=AvroFormat('''SALE'''),
    batch_source=FileSource(name="sales_batch", path="sales.parquet", timestamp_field="at"),
    tags={"message_key": "shop"},
)
PREFIX_sold = StreamFeatureView(
    name="PREFIX_sold", entities=[shop], source=past(sales, "PREFIX_sold"), timestamp_field="at",
    aggregations=[
        Aggregation("amount", "sum", timedelta(minutes=30), name="sold"),
        Aggregation("amount", "std", timedelta(minutes=30), name="sold_std"),
    ],
    schema=[
        Field(name="shop", dtype=String), Field(name="sold", dtype=Float64),
        Field(name="sold_std", dtype=Float64),
    ],
    enable_tiling=True, tiling_hop_size=timedelta(minutes=1),
)
numbers = FeatureService(name="numbers", features=[PREFIX_by_shop, PREFIX_sold])
"""
SERVED = 6
"""Features of the service."""
NARROWER = {
    'Field(name="heat", dtype=Float64)': 'Field(name="heat", dtype=Float32)',
    'Field(name="people", dtype=Int64)': 'Field(name="people", dtype=Int32)',
}

MODEL = """
name: NAME
owner: tests@driftline.example
task: TASK
request:
  topic: NAME.requests
  encoding: ENCODING
  id: id
  event_time: at
  schema: {id: string, at: timestamp, shop: string, x: float?, n: int?, note: string?, ok: bool?}
features: {service: numbers, from_request: [x, n]}
label:
  topic: NAME.labels
  encoding: ENCODING
  id: id
  event_time: at
  value: y
  horizon_hours: 3
  schema: {id: string, at: timestamp, y: float, n: int?, note: string?, ok: bool?}
monitoring: {window_hours: 1, lateness_hours: 1}
"""
BINARY = ("binary", "json", "  positive_above: 0.5\n", "gates: {floor: 1.0}\n")
COLLECTING = ("binary", "avro", "  positive_above: 0.5\n", "gates: {floor: 1.0}\n")
LEARNING = (
    "regression",
    "json",
    "",
    "learning: {every_hours: 1, effective_after_hours: 1, minimum_labels: 20}\n",
)
TRAINING = """
from river import compose, linear_model, preprocessing

def learner(categorical, numeric):
    return compose.Select("x") | preprocessing.StandardScaler() | linear_model.LinearRegression()
"""

AVRO_TIME = {"type": "long", "logicalType": "timestamp-millis"}
SALE = {
    "sale_id": "string",
    "at": AVRO_TIME,
    "shop": "string",
    "amount": ["null", "double"],
    "note": ["null", "string"],
}
REQUEST = {
    "id": "string", "at": AVRO_TIME, "shop": "string", "x": ["null", "double"], "n": ["null", "long"],
    "note": ["null", "string"], "ok": ["null", "boolean"],
}  # fmt: skip
LABEL = {"id": "string", "at": AVRO_TIME, "y": "double", "n": ["null", "long"], "note": ["null", "string"]}


@dataclasses.dataclass(frozen=True)
class Target:
    """A topic to write to, and who writes dead letters about it."""

    topic: str
    family: str
    """``event``, ``request``, ``label``, ``prediction``, ``outcome``, or a control topic."""
    shape: Shape
    fields: Callable[[random.Random, str, int], Json]
    """Return those of a valid record with an id and an event time."""
    readers: Mapping[Fate, frozenset[str]]
    """The processes that write a dead letter, by fate; without those, the records are skipped."""
    partitions: int = PARTITIONS

    def place(self, rng: random.Random, fields: Json) -> tuple[int, bytes]:
        """Return partition and key of a record."""
        if self.family == "event" and not self.topic.endswith(".orders"):
            return SHOPS[fields["shop"]], fields["shop"].encode()
        key = f"{fields.get(self.shape.id)}-{rng.randrange(10**9)}" if self.shape.key_is_needed else "key"
        return rng.randrange(self.partitions), key.encode()[:100]


@dataclasses.dataclass(frozen=True)
class Written:
    """A record that is in its topic."""

    target: Target
    partition: int
    offset: int
    time_ms: int
    record: Record

    @property
    def place(self) -> tuple[str, int, int]:
        return self.target.topic, self.partition, self.offset

    @property
    def refusing(self) -> frozenset[str]:
        """The processes that must write a dead letter."""
        return self.target.readers.get(self.record.fate, frozenset())


Planned = tuple[Target, int, int, Record]
"""A record to write: topic, partition, event time."""


class Encoders(Protocol):
    """Makes encoders of Avro values, e.g. `Avro`."""

    def encoder(self, topic: str, name: str, types: Json) -> Callable[[Json], bytes]: ...


class Avro:
    """Encodes values by schemas that are in the registry."""

    def __init__(self, url: str, prefix: str) -> None:
        client = SchemaRegistryClient({"url": url})
        self._client = client
        text = json.dumps({"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"})
        other = _avro_schema("Other", {"else": "string"})
        self._ids = {
            OTHER_SCHEMA: client.register_schema(f"{prefix}.other", Schema(json.dumps(other), "AVRO")),
            JSON_SCHEMA: client.register_schema(f"{prefix}.json", Schema(text, "JSON")),
        }

    def encoder(self, topic: str, name: str, types: Json) -> Callable[[Json], bytes]:
        """Register a schema for a topic; return the encoder of its values."""
        schema = _avro_schema(name, types)
        number = self._client.register_schema(f"{topic}-value", Schema(json.dumps(schema), "AVRO"))
        head, parsed = b"\0" + number.to_bytes(4), fastavro.parse_schema(schema)

        def encode(fields: Json) -> bytes:
            stream = io.BytesIO()
            fastavro.schemaless_writer(stream, parsed, fields)
            return head + stream.getvalue()

        return encode

    def with_real_ids(self, value: bytes) -> bytes:
        """Replace the ids that stand for those of the registry."""
        for stands_for, number in self._ids.items():
            if value.startswith(b"\0" + stands_for.to_bytes(4)):
                return b"\0" + number.to_bytes(4) + value[5:]
        return value


def _avro_schema(name: str, types: Json) -> Json:
    return {
        "type": "record",
        "name": name,
        "fields": [{"name": key, "type": kind} for key, kind in types.items()],
    }


def write_installation(folder: Path, prefix: str) -> tuple[Path, Path]:
    """Write the Feast repository and the declarations; return both folders."""
    repository = write_shop(folder / "repository", prefix)
    file = repository / "definitions.py"
    text = file.read_text(encoding="utf-8")
    for wide, narrow in NARROWER.items():
        assert wide in text
        text = text.replace(wide, narrow)
    own = DEFINITIONS.replace("SALE", json.dumps(_avro_schema("Sale", SALE))).replace("PREFIX", prefix)
    file.write_text(text + own, encoding="utf-8")
    for letter, (task, encoding, label, end) in zip(MODELS, (BINARY, COLLECTING, LEARNING), strict=True):
        model = folder / "models" / f"{prefix}{letter}"
        model.mkdir(parents=True)
        text = MODEL.replace("  horizon_hours: 3\n", f"  horizon_hours: 3\n{label}") + end
        text = text.replace("NAME", model.name).replace("TASK", task).replace("ENCODING", encoding)
        (model / "model.yaml").write_text(text, encoding="utf-8")
        if "learning" in end:
            (model / "training.py").write_text(TRAINING, encoding="utf-8")
    return repository, folder / "models"


@contextlib.contextmanager
def own_kafka(servers: Supervisor, folder: Path) -> Iterator[str]:
    """Start a Kafka of one test alone: what it writes to shared topics would be read by all tests."""
    port = ports.free_port()
    server = Server(servers, lambda: local_kafka.start(servers, folder, port))
    yield f"127.0.0.1:{port}"
    server.kill()


def install(settings: Settings, registry_url: str, prefix: str, folder: Path) -> Settings:
    """Make features, models, topics and schemas, without a process; return the settings."""
    feature_repo, models = write_installation(folder, prefix)
    changes = {
        "feature_repo": feature_repo,
        "models": models,
        "partitions": PARTITIONS,
        "schema_registry_url": registry_url,
    }
    return settings.model_copy(update=changes)


# Targets.


def _readers(
    *, invalid: Iterable[str], ahead: Iterable[str] = (), heartbeat: Iterable[str] = ()
) -> Mapping[Fate, frozenset[str]]:
    return {
        Fate.INVALID: frozenset(invalid),
        Fate.AHEAD: frozenset(ahead),
        Fate.HEARTBEAT: frozenset(heartbeat),
    }


def targets(prefix: str, avro: Encoders, now_ms: int) -> list[Target]:
    """Return all topics that hostile records are written to."""
    found = _event_targets(prefix, avro) + control_targets(prefix, [f"{prefix}{letter}" for letter in MODELS])
    for letter in MODELS:
        found += _model_targets(
            f"{prefix}{letter}", avro if letter == "b" else None, now_ms, learns=letter == "c"
        )
    return found


def _event_targets(prefix: str, avro: Encoders) -> list[Target]:
    readers = _readers(invalid=["features"], ahead=["features"], heartbeat=["features", "archive"])
    order = Shape("order", "order_id", "shop", "note", "amount", "desk", "paid", "event_time", bytes_max=MIB)
    reading = Shape(
        "reading", "state", "shop", "state", "heat", "people", "open", "event_time",
        is_int32=True, is_float32=True, bytes_max=MIB,
    )  # fmt: skip
    encode = avro.encoder(f"{prefix}.sales", "Sale", SALE)
    sale = Shape(
        "sale", "sale_id", "shop", "note", "amount", time="at", is_stamp=False, bytes_max=MIB,
        is_avro=True, encode=encode,
    )  # fmt: skip
    return [
        Target(f"{prefix}.orders", "event", order, _order, readers),
        Target(f"{prefix}.readings", "event", reading, _reading, readers),
        Target(f"{prefix}.sales", "event", sale, _sale, readers),
    ]


def _order(rng: random.Random, identity: str, time_ms: int) -> Json:
    return {
        "order_id": identity, "event_time": stamp(time_ms), "shop": rng.choice(list(SHOPS)),
        "desk": rng.choice([1, 2, None]), "amount": rng.choice([None, rng.uniform(-1e3, 1e3), 0.1]),
        "paid": rng.random() < 0.5,
    }  # fmt: skip


def _reading(rng: random.Random, identity: str, time_ms: int) -> Json:
    return {
        "shop": rng.choice(list(SHOPS)), "event_time": stamp(time_ms), "heat": rng.randrange(400) / 8,
        "state": identity, "open": rng.random() < 0.5, "people": rng.randrange(90),
    }  # fmt: skip


def _sale(rng: random.Random, identity: str, time_ms: int) -> Json:
    amount = rng.uniform(-1e3, 1e3)
    return {
        "sale_id": identity,
        "at": time_ms,
        "shop": rng.choice(list(SHOPS)),
        "amount": amount,
        "note": None,
    }


def _model_targets(name: str, avro: Encoders | None, now_ms: int, *, learns: bool) -> list[Target]:
    watching = ["drift", "learning"] if learns else ["drift"]
    request = Shape("request", "id", "shop", "note", "x", "n", "ok", "at", id_is_bounded=True, bytes_max=MIB)
    label = Shape("label", "id", "y", "note", "y", "n", "ok", "at", id_is_bounded=True, has_loss=True)
    if learns:
        # A version that is learned refuses a row by its score: whether there is one yet, depends on the pace.
        request = dataclasses.replace(request, number=None)
    if avro is not None:
        common: Any = {"is_avro": True, "is_stamp": False}
        requests, labels = f"{name}.requests", f"{name}.labels"
        request = dataclasses.replace(request, **common, encode=avro.encoder(requests, "Request", REQUEST))
        label = dataclasses.replace(label, **common, flag=None, encode=avro.encoder(labels, "Label", LABEL))

    def time_of(time_ms: int) -> Any:
        return time_ms if avro is not None else stamp(time_ms)

    def ask(rng: random.Random, identity: str, time_ms: int) -> Json:
        return {
            "id": identity, "at": time_of(time_ms), "shop": rng.choice(list(SHOPS)), "x": rng.gauss(0, 1),
            "n": rng.randrange(9), "note": None, "ok": True,
        }  # fmt: skip

    def tell(rng: random.Random, identity: str, time_ms: int) -> Json:
        return {
            "id": identity,
            "at": time_of(time_ms),
            "y": float(rng.random() < 0.4),
            "n": None,
            "note": None,
        }

    prediction = Shape(
        "prediction", "prediction_id", "model", "arm", "score", "version",
        time="event_time_ms", is_stamp=False, is_int32=True, model="model",
        source_partition="source_partition",
    )  # fmt: skip
    outcome = dataclasses.replace(prediction, name="outcome", number="label")

    def predict(rng: random.Random, identity: str, time_ms: int) -> Json:
        return {
            "prediction_id": identity, "model": name, "version": 1, "arm": "champion", "arm_weight": 10_000,
            "event_time_ms": time_ms, "scored_time_ms": now_ms, "source_partition": -1, "source_offset": -1,
            "features": [rng.gauss(0, 1)] * (2 + SERVED), "features_lag_ms": 0, "score": 0.5, "prediction": 1,
        }  # fmt: skip

    def join(rng: random.Random, identity: str, time_ms: int) -> Json:
        return {
            "prediction_id": identity, "model": name, "version": 1, "arm": "champion",
            "event_time_ms": time_ms, "label_time_ms": time_ms, "source_partition": -1, "source_offset": -1,
            "label": 1.0, "score": 0.5, "loss": rng.random(),
        }  # fmt: skip

    clocked = ["scoring"]
    return [
        Target(
            f"{name}.requests", "request", request, ask,
            _readers(invalid=clocked, ahead=clocked, heartbeat=[*clocked, "archive"]),
        ),
        Target(
            f"{name}.labels", "label", label, tell,
            _readers(invalid=watching, ahead=watching, heartbeat=[*watching, "archive"]),
        ),
        Target(
            topics.predictions(name), "prediction", prediction, predict,
            _readers(invalid=[*watching, "archive"], ahead=watching, heartbeat=watching),
        ),
        Target(topics.outcomes(name), "outcome", outcome, join, _readers(invalid=["archive"])),
    ]  # fmt: skip


def control_targets(prefix: str, names: Sequence[str]) -> list[Target]:
    """Return Driftline's internal topics, with records as anybody may write them."""
    shared: Any = {"partitions": 1, "family": "control"}
    skipped = _readers(invalid=[])
    ours: Any = {"is_stamp": False}
    model = names[0]

    def alarm(_rng: random.Random, identity: str, time_ms: int) -> Json:
        return {
            "type": "drift_alarm", "alarm_id": identity, "model": model, "version": 1, "kind": "feature",
            "subject": "x", "value": 1.0, "threshold": 1.0, "detected_at_ms": time_ms, "since_ms": time_ms,
            "message": "m",
        }  # fmt: skip

    def finished(_rng: random.Random, identity: str, time_ms: int) -> Json:
        return {
            "type": "retraining_finished", "request_id": identity, "model": model, "trigger": "manual",
            "requested_at_ms": time_ms, "result": "failed", "version": 0, "run_id": "r", "rows": 1,
            "duration_seconds": 0.5,
        }  # fmt: skip

    def change(_rng: random.Random, identity: str, time_ms: int) -> Json:
        return {
            "type": "model_changed", "model": identity, "arms": [], "changed_at_ms": time_ms, "reason": "r",
        }  # fmt: skip

    def silence(_rng: random.Random, identity: str, time_ms: int) -> Json:
        return {
            "type": "silence", "silence_id": identity, "until_ms": time_ms + DAY_MS, "created_ms": time_ms,
            "reason": "r", "model": "nobody",
        }  # fmt: skip

    def entry(_rng: random.Random, identity: str, time_ms: int) -> Json:
        return {
            "entry_id": identity, "number": 1, "kind": "gate", "model": model, "version": 1,
            "request_id": "r", "actor": "a", "at_ms": time_ms, "evidence": {}, "previous": "p", "hash": "h",
        }  # fmt: skip

    def rollout(_rng: random.Random, identity: str, time_ms: int) -> Json:
        return {
            "type": "rollout_requested", "request_id": identity, "model": "nobody", "version": 1,
            "requested_at_ms": time_ms, "reason": "r", "actor": "a",
        }  # fmt: skip

    def erasure(_rng: random.Random, identity: str, time_ms: int) -> Json:
        return {
            "erasure_id": identity, "join_keys": ["nobody"], "salt": "c2FsdA==", "digest": "ZGlnZXN0",
            "at_ms": time_ms, "expires_ms": None, "offsets": {}, "complete": True,
        }  # fmt: skip

    def garbage(_rng: random.Random, identity: str, time_ms: int) -> Json:
        return {"id": identity, "at": time_ms, "reason": "r"}

    def letter(_rng: random.Random, identity: str, time_ms: int) -> Json:
        return {
            "service": "drift", "reason": "r", "topic": f"nowhere-{identity}", "partition": 0, "offset": 0,
            "key": None, "value": None, "failed_time_ms": time_ms,
        }  # fmt: skip

    alarms = Shape(
        "alarm",
        "alarm_id",
        "message",
        "message",
        "value",
        "version",
        None,
        "detected_at_ms",
        tag="type",
        **ours,
    )
    results = Shape(
        "result",
        "request_id",
        "model",
        "run_id",
        "duration_seconds",
        "rows",
        None,
        "requested_at_ms",
        tag="type",
        **ours,
    )
    changes = Shape(
        "change", "model", "reason", "reason", time="changed_at_ms", key_is_needed=True, tag="type", **ours
    )
    silences = Shape(
        "silence", "silence_id", "reason", "reason", time="until_ms", key_is_needed=True, tag="type", **ours
    )
    entries = Shape("entry", "entry_id", "model", "actor", None, "version", None, "at_ms", **ours)
    rollouts = Shape(
        "rollout", "request_id", "model", "actor", None, "version", None, "requested_at_ms", "type", **ours
    )
    erasures = Shape(
        "erasure", "erasure_id", "salt", flag="complete", time="at_ms", key_is_needed=True, **ours
    )
    states = Shape("state", "id", "reason", "reason", key_is_needed=True, all_are=Fate.IGNORED)
    failures = Shape("letter", "topic", "reason", "reason", None, "offset", None, "failed_time_ms", **ours)
    orders = Shape("forwarded", "order_id", "shop", "note", "amount", "desk", "paid", all_are=Fate.INVALID)
    forwarded = _readers(invalid=["features"])
    return [
        Target(topics.DRIFT.name, shape=alarms, fields=alarm, readers=skipped, **shared),
        Target(
            topics.RETRAINING.name, shape=results, fields=finished,
            readers=_readers(invalid=["retraining"]), **shared,
        ),
        Target(topics.MODELS.name, shape=changes, fields=change, readers=skipped, **shared),
        Target(
            topics.LEDGER.name, shape=entries, fields=entry, readers=_readers(invalid=["archive"]), **shared
        ),
        Target(topics.ROLLOUTS.name, shape=rollouts, fields=rollout, readers=skipped, **shared),
        Target(topics.ERASURES.name, shape=erasures, fields=erasure, readers=skipped, **shared),
        Target(topics.ALERTS.name, shape=silences, fields=silence, readers=skipped, **shared),
        Target(topics.DRIFT_STATE.name, shape=states, fields=garbage, readers=skipped, **shared),
        Target(topics.LEARNING_STATE.name, shape=states, fields=garbage, readers=skipped, **shared),
        Target(topics.LEARNED.name, shape=states, fields=garbage, readers=skipped, **shared),
        Target(topics.REFERENCES.name, shape=states, fields=garbage, readers=skipped, **shared),
        Target(topics.DEAD_LETTERS.name, shape=failures, fields=letter, readers=skipped, **shared),
        *(
            Target(topics.repartition(f"{prefix}_{view}"), "forwarded", orders, _order, forwarded)
            for view in ("by_shop", "by_desk")
        ),
    ]  # fmt: skip


# Writing and reading.


BATCH_RECORDS_MAX = 50
"""Maximum records of one batch."""


def write(broker: str, avro: Avro, planned: Sequence[Planned]) -> list[Written]:
    """Write records to their partitions, in order; return them with their offsets.

    Batches are compressed: so a large record of little information fits into its topic.
    """
    return asyncio.run(_write(broker, avro, planned))


async def _write(broker: str, avro: Avro, planned: Sequence[Planned]) -> list[Written]:
    places: dict[tuple[str, int], list[Planned]] = {}
    for each in planned:
        places.setdefault((each[0].topic, each[1]), []).append(each)
    producer = AIOKafkaProducer(
        bootstrap_servers=broker, compression_type="gzip", max_batch_size=MIB // 2, max_request_size=64 * MIB
    )
    async with producer:
        shares = await asyncio.gather(*(_write_share(producer, avro, share) for share in places.values()))
    return [written for share in shares for written in share]


async def _write_share(producer: Any, avro: Avro, share: Sequence[Planned]) -> list[Written]:
    """Write the records of one partition, batch by batch."""
    done: list[Written] = []
    while len(done) < len(share):
        batch, part = producer.create_batch(), list[Planned]()
        for each in share[len(done) : len(done) + BATCH_RECORDS_MAX]:
            is_raw = any(isinstance(name, RawName) for name, _ in each[3].headers)
            if part and is_raw:
                break
            if is_raw:  # the builder in C takes names in UTF-8 only
                batch._builder = _DefaultRecordBatchBuilderPy(2, 1, 0, -1, -1, -1, MIB)
            if not _append(batch, avro, each[3]):
                break
            part.append(each)
            if is_raw:
                break
        target, partition, *_ = share[0]
        sent = await producer.send_batch(batch, target.topic, partition=partition)
        start = (await sent).offset
        done += [
            Written(target, partition, start + number, time_ms, record)
            for number, (target, partition, time_ms, record) in enumerate(part)
        ]
    return done


def _append(batch: Any, avro: Avro, record: Record) -> bool:
    """Append a record; return whether there was room."""
    value = None if record.value is None else avro.with_real_ids(record.value)
    time_ms = times.now_ms() if record.timestamp_ms is None else record.timestamp_ms
    headers = list(record.headers)
    return batch.append(key=record.key, value=value, timestamp=time_ms, headers=headers) is not None


def letters(broker: str) -> list[tuple[int, records.DeadLetter]]:
    """Return the dead letters with their offsets; what else is in their topic is left out."""
    decode = records.decoder_of(records.DeadLetter).decode
    found = []
    for each in read_topic(broker, topics.DEAD_LETTERS.name):
        with contextlib.suppress(InvalidRecordError):
            found.append((each.offset, decode(each.value)))
    return found


def as_json(written: Written) -> bytes:
    """Return the value of an event as JSON, as the declared schema has it."""
    record = written.record
    if not written.target.shape.is_avro:
        assert record.value is not None
        return record.value
    fields = {name: None if _is_nan(value) else value for name, value in record.fields.items()}
    return encoded(fields | {"at": stamp(record.fields["at"])})


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def register_version(settings: Settings, name: str, folder: Path) -> int:
    """Register a small version of a model and make it the champion; return its number."""
    import numpy as np
    import pandas as pd
    from sklearn.ensemble import HistGradientBoostingClassifier

    from services.model_registry import mlflow_client, model_inputs, models_topic, registration
    from services.runtime.declaration import FILE
    from services.runtime.declaration_file import load_named

    mlflow_client.connect(settings)
    declaration = load_named(settings.models / name / FILE)
    given = model_inputs.of_model(settings, declaration)
    rng = np.random.default_rng(0)
    inputs = pd.DataFrame(rng.normal(size=(300, len(given))), columns=list(given))
    estimator = HistGradientBoostingClassifier(max_iter=5).fit(inputs, inputs.sum(axis=1) > 0)
    tags = registration.seal_estimator(settings, declaration, given, estimator, inputs[:64], folder)
    version = registration.register(settings, name, folder, tags)
    arms = [records.Arm(name="champion", version=version, weight=10_000)]
    change = records.ModelChanged(model=name, arms=arms, changed_at_ms=0, reason="chosen by hand")
    with models_topic.opened(settings) as models:
        models.publish([change])
    return version
