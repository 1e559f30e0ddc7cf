"""A change of any setting between two requests: scoring goes on, and the archive is read with one meaning.

Scoring, drift and archive are the real ones without servers. Rows are archived as declared before a change
and as declared after it, in the same tables, and read as a retraining reads them.
"""

import asyncio
import dataclasses
import datetime as dt
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.archive import row_schemas
from services.archive.delta_writer import DeltaWriter
from services.archive.row_schemas import DecodedRecord, Table
from services.drift.drift_state import starting_state
from services.drift.engine import Engine
from services.feature_store.plan import ServicePlan
from services.feature_store.served_features import ServedFeatures
from services.model_registry import model_inputs
from services.model_registry.contract import LoadedVersion
from services.model_registry.model_inputs import InputKind
from services.monitoring.label_definition import label_definition
from services.monitoring.prediction_decoder import PredictionDecoder
from services.retraining import extraction
from services.retraining.errors import InvalidDataError
from services.retraining.extraction import Wanted
from services.retraining.training_set import TrainingSet
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import Settings
from services.scoring.arm_router import ArmRouter
from services.scoring.inference_pipeline import InferencePipeline
from services.scoring.model_cache import ModelCache
from services.scoring.model_calls import ModelCalls
from services.scoring.model_versions import ModelVersions
from services.scoring.outputs import PredictionTask
from services.scoring.prediction_records import encode_predictions
from services.scoring.request_features import RequestFeatures
from services.scoring.thread_limits import ThreadLimits
from streams import codec, feature_sets, records, topics
from streams.codec import FieldType
from streams.feature_sets import FeatureSets
from streams.schemas import Encoding
from tests import declaration_changes
from tests.unit.archive.kafka_records import Record
from tests.unit.drift import scenario

NOW_MS = 1_700_000_000_000
HOUR_MS = 3_600_000
LABEL_HOURS = 2
LABEL_VALUES: Mapping[FieldType, Any] = {
    FieldType.FLOAT: 17.0, FieldType.INT: 17, FieldType.BOOL: True, FieldType.STRING: "a",
}  # fmt: skip
"""A label above 15 and below 20, so that another bound gives it another number."""
VALUES: Mapping[FieldType, Any] = {
    FieldType.FLOAT: 1.5, FieldType.INT: 7, FieldType.BOOL: True, FieldType.STRING: "red",
    FieldType.TIMESTAMP: dt.datetime.fromtimestamp(NOW_MS / 1000, dt.UTC).isoformat(),
}  # fmt: skip


def document(**changes: Any) -> dict[str, Any]:
    """Return a declaration with nearly every section."""
    costs = {"unit": "USD", "costs": {"0": {"0": 0.0, "1": 5.0}, "1": {"0": 1.0, "1": 0.0}}}
    objective = {"objective": 0.9}
    slo = {"latency": objective | {"within_ms": 25}, "availability": objective, "accuracy": objective}
    declared = scenario.document(quality={"x": {"min": -2, "max": 2}, "colour": {"allowed": ["red"]}})
    return declared | {"business": costs, "slo": slo} | changes


class NoStore:
    """Serves no features of its own."""

    async def wait_for(self, event_time_ms: int, timeout_seconds: float) -> bool:
        return True

    async def read(
        self, entity_columns: Mapping[str, Sequence[Any]], event_times_ms: Any, events: Any
    ) -> ServedFeatures:
        return ServedFeatures(columns={}, lag_ms=np.zeros(len(event_times_ms), np.int64), beyond_retention=0)


class Constant:
    """A binary model that was trained before the change."""

    size_bytes = 1000

    def predict(self, columns: Mapping[str, Any]) -> Any:
        return np.full(len(next(iter(columns.values()))), 0.4)


@dataclasses.dataclass
class Archived:
    """What one declaration wrote, before it is archived."""

    published: records.FeatureSet
    predictions: list[records.Prediction]
    failed: Mapping[str, str]
    """Requests without a prediction, with the reason."""
    outcomes: list[records.Outcome]


def inputs_of(declared: ModelDeclaration) -> model_inputs.Inputs:
    return model_inputs.served(declared, ServicePlan("s", "p", (), ()))


def pipeline_of(
    declared: ModelDeclaration, published: records.FeatureSet, cache: ModelCache
) -> InferencePipeline:
    """Return what scoring builds for a declaration; the cache of versions outlives a change."""
    threads = ThreadLimits(declared.limits.threads)
    versions = ModelVersions("m", lambda _name, _version: LoadedVersion(Constant()), cache, threads)
    versions.router = ArmRouter("m", [records.Arm(name="champion", version=1, weight=10_000)])
    versions.loaded.keep(versions.router.versions)
    features = RequestFeatures(declared, [], [], NoStore(), feature_set=published.digest)
    return InferencePipeline(declared, features, versions, ModelCalls(PredictionTask(declared), threads))


def written(declared: ModelDeclaration, names: Sequence[str], cache: ModelCache) -> Archived:
    """Score one request for each name, let drift join their labels, and return the records."""
    inputs = inputs_of(declared)
    published = feature_sets.feature_set("m", list(inputs), model_inputs.textual(inputs))
    pipeline = pipeline_of(declared, published, cache)
    request = {field.name: VALUES[field.type] for field in declared.request.fields}
    events = [pipeline.decoder.convert(request | {declared.request.id: name}) for name in names]
    batch, _ = asyncio.run(pipeline.score(events))
    encoded = encode_predictions(
        batch, {}, pipeline.task, "m", partition=0, offsets=list(range(len(names))), now_ms=NOW_MS
    )
    predictions = [row_schemas.PREDICTIONS.decode(value) for value in encoded.values]
    failed = {names[row]: reason for row, reason in batch.failed.items()}
    return Archived(published, predictions, failed, joined(declared, predictions))


def joined(declared: ModelDeclaration, predictions: Sequence[records.Prediction]) -> list[records.Outcome]:
    """Return the outcomes that drift writes for predictions and their labels."""
    engine = Engine(declared, starting_state(declared, 1, 1))
    decoder = PredictionDecoder("drift", as_json(declared), engine)
    label = {field.name: VALUES[field.type] for field in declared.label.fields}
    kind = next(field.type for field in declared.label.fields if field.name == declared.label.value)
    label |= {declared.label.value: LABEL_VALUES[kind] if not declared.classes else declared.classes[0]}
    at = dt.datetime.fromtimestamp(NOW_MS / 1000 + LABEL_HOURS * 3600, dt.UTC).isoformat()
    label |= {declared.label.event_time: at}
    last_ms = NOW_MS + 10_000 * HOUR_MS
    now_ms = NOW_MS + 20_000 * HOUR_MS
    found = [records.encode(each) for each in predictions]
    decoder.take_predictions(kafka(topics.predictions("m"), found, last_ms), now_ms)
    decoder.take_labels(kafka("labels", [
        json.dumps(label | {declared.label.id: each.prediction_id}).encode() for each in predictions
    ], last_ms), now_ms)  # fmt: skip
    engine.references.give_up()
    return [outcome for each in engine.advance().outcomes.values() for outcome in each]


def as_json(declared: ModelDeclaration) -> ModelDeclaration:
    """Return a declaration whose labels need no schema registry."""
    return declared.model_copy(
        update={"label": declared.label.model_copy(update={"encoding": Encoding.JSON})}
    )


def kafka(topic: str, values: Sequence[bytes], last_ms: int) -> list[Any]:
    """Return records, and a heartbeat after them."""
    found = [Record(offset, each, topic=topic, timestamp=last_ms) for offset, each in enumerate(values)]
    beat = Record(len(values), None, topic=topic, timestamp=last_ms, headers=codec.heartbeat(last_ms))
    return [*found, beat]


def archive(settings: Settings, found: Archived, start: int) -> None:
    """Append the records to the tables, as the archive process does."""
    for table, topic, rows in (
        (row_schemas.PREDICTIONS, topics.predictions("m"), found.predictions),
        (row_schemas.OUTCOMES, topics.outcomes("m"), found.outcomes),
    ):
        append(settings, table, topic, [records.encode(each) for each in rows], start)


def append(settings: Settings, table: Table, topic: str, values: Sequence[bytes], start: int) -> None:
    rows = [
        DecodedRecord(Record(start + number, value, topic=topic), table.decode(value))
        for number, value in enumerate(values)
    ]
    DeltaWriter(settings, table).append(rows, {(topic, 0): start + len(rows)})


BEFORE = ("a", "b")
AFTER = ("c", "d")


@dataclasses.dataclass
class History:
    """The archive before the change, and the versions that scoring had loaded by then."""

    folder: Path
    found: Archived
    cache: ModelCache


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    folder = tmp_path_factory.mktemp("before")
    cache = ModelCache(1 << 20)
    found = written(ModelDeclaration.model_validate(document()), BEFORE, cache)
    assert [len(found.predictions), len(found.outcomes), len(found.failed)] == [2, 2, 0]
    archive(Settings(home=folder), found, 0)
    return History(folder, found, cache)


def changed_history(
    history: History, declared: ModelDeclaration, tmp_path: Path
) -> tuple[Settings, Archived]:
    """Return the archive with rows of both declarations, and those of the second one."""
    shutil.copytree(history.folder, tmp_path / "home")
    settings = Settings(home=tmp_path / "home")
    after = written(declared, AFTER, history.cache)
    archive(settings, after, len(BEFORE))
    return settings, after


CHANGES = declaration_changes.changes(document())
CASES = [
    pytest.param(declared, id=f"{path} {number}")
    for path, found in CHANGES.items()
    for number, (_, declared) in enumerate(found)
    if path != "name"  # a model of another name has its own topics and rows
]


OF_REGRESSIONS = ("learning.", "business.over", "business.under")
"""Settings that a binary model with gates does not have."""


def test_every_setting_is_changed() -> None:
    assert not [path for path in CHANGES if not CHANGES[path] and not path.startswith(OF_REGRESSIONS)]


@pytest.mark.parametrize("declared", CASES)
def test_scoring_goes_on_and_training_reads_only_labels_of_the_declared_meaning(
    declared: ModelDeclaration, history: History, tmp_path: Path
) -> None:
    before = ModelDeclaration.model_validate(document())
    settings, after = changed_history(history, declared, tmp_path)
    assert {row.prediction_id for row in after.predictions} | after.failed.keys() == {*AFTER}
    check_served(after)
    has_same_labels = label_definition(declared) == label_definition(before)
    fits = has_same_labels and declared.label.horizon_hours >= LABEL_HOURS
    known = [each.prediction_id for each in after.outcomes]
    if not fits and not known:
        with pytest.raises(InvalidDataError, match="has a label as"):
            training_set(settings, declared, history, after)
        return
    if declared.label.absent is not None:  # the archive has no label of one horizon later
        with pytest.raises(InvalidDataError, match="none of 4 labelled predictions is older"):
            training_set(settings, declared, history, after)
        return
    data = training_set(settings, declared, history, after)
    assert data.rows["prediction_id"].tolist() == [*(BEFORE if fits else ()), *known]
    assert data.left_out == (0 if fits else len(BEFORE))
    outcomes = [*(history.found.outcomes if fits else ()), *after.outcomes]
    assert data.rows["label"].tolist() == [each.label for each in outcomes]
    check_columns(inputs_of(before), inputs_of(declared), data)


SCHEMA = {"id": "string", "at": "timestamp", "x": "float", "colour": "string?"}
FEATURE_CHANGES = {
    "reordered": (["colour", "x"], SCHEMA),
    "removed": (["x"], SCHEMA),
    "added": (["x", "colour", "new"], SCHEMA | {"new": "int"}),
    "renamed": (["x2", "colour"], SCHEMA | {"x2": "float"}),
    "number to text": (["x", "colour"], SCHEMA | {"x": "string"}),
    "text to number": (["x", "colour"], SCHEMA | {"colour": "int?"}),
    "number to time": (["x", "colour"], SCHEMA | {"x": "timestamp"}),
    "text to time": (["x", "colour"], SCHEMA | {"colour": "timestamp?"}),
    "exchanged": (["x", "colour"], SCHEMA | {"x": "string", "colour": "float?"}),
}


@pytest.mark.parametrize("change", FEATURE_CHANGES)
def test_a_training_set_survives_another_list_of_features(
    change: str, history: History, tmp_path: Path
) -> None:
    names, schema = FEATURE_CHANGES[change]
    before = document()
    declared = ModelDeclaration.model_validate(
        before
        | {"request": before["request"] | {"schema": schema}, "features": {"from_request": names}}
        | {"monitoring": {}}
    )
    settings, after = changed_history(history, declared, tmp_path)
    check_served(after)
    data = training_set(settings, declared, history, after)
    assert data.rows["prediction_id"].tolist() == [*BEFORE, *AFTER]
    check_columns(inputs_of(ModelDeclaration.model_validate(before)), inputs_of(declared), data)


def training_set(
    settings: Settings, declared: ModelDeclaration, history: History, after: Archived
) -> TrainingSet:
    sets = FeatureSets([history.found.published, after.published])
    return extraction.read(settings, Wanted(declared, inputs_of(declared), NOW_MS + 10_000 * HOUR_MS, sets))


def check_served(found: Archived) -> None:
    """Check that each prediction holds values of the published types, under the published names."""
    for row in found.predictions:
        assert row.feature_set == found.published.digest
        for name, value in zip(found.published.names, row.features, strict=True):
            assert isinstance(value, str) is (name in found.published.text)


def check_columns(before: model_inputs.Inputs, now: model_inputs.Inputs, data: TrainingSet) -> None:
    """Check that each feature has values of its declared type, and only where its rows had that type.

    The texts of the rows before are no times.
    """
    for name, kind in now.items():
        column = data.features[name]
        assert column.dtype == (np.float64 if kind is InputKind.NUMBER else object)
        for row, value in zip(data.rows["prediction_id"], column, strict=True):
            is_present = row in AFTER or before.get(name) is kind
            assert (value is not None and value == value) is is_present  # nan
            assert not is_present or isinstance(value, PYTHON_TYPES[kind])


PYTHON_TYPES = {InputKind.NUMBER: float, InputKind.TEXT: str, InputKind.TIME: dt.datetime}
"""The type of the values of each kind in a training set."""
