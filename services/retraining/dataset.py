"""The training set: served predictions joined with their outcomes, read from the inference log."""

import dataclasses
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import structlog

from services.model_registry.model_inputs import InputKind, Inputs
from services.monitoring import inference_log
from services.monitoring.label_definition import label_definition
from services.retraining import feature_columns
from services.retraining.errors import ArchiveBehindError, InvalidDataError
from services.runtime.declaration import DAY_MS, ModelDeclaration, Retraining
from services.runtime.settings import Settings
from streams import topics
from streams.feature_sets import FeatureSets
from streams.records import RetrainingRequested

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from deltalake import DeltaTable

_log = structlog.get_logger()

ARCHIVE_SECONDS_MAX = 180.0
"""Maximum wait for the archive: three times the age at which it commits a batch."""
ARCHIVE_POLL_SECONDS = 0.1

EndOffsets = Callable[[Sequence[str]], Mapping[str, list[int]]]
"""Returns the end offset of each partition of some topics."""


@dataclasses.dataclass(frozen=True)
class DataVersion:
    """The data that a model was trained on, with all that is needed to read the same rows again."""

    tables: Mapping[str, int]
    """Version of each Delta table."""
    sha256: str
    """Digest of ids and labels in order."""
    rows: int
    first_event_ms: int
    last_event_ms: int


@dataclasses.dataclass(frozen=True)
class TrainingSet:
    """n rows, ordered by event time, then prediction id."""

    rows: "pd.DataFrame"
    """Columns: prediction_id, event_time_ms, label_time_ms, label."""
    features: "pd.DataFrame"
    """(n, n_features) as served, in the order of the declaration; float64 with nan, or object with None."""
    text: list[str]
    """The features that hold text."""
    version: DataVersion
    times: Sequence[str] = ()
    """The features that hold datetimes with a time zone."""
    left_out: int = 0
    """Number of rows that the training set could not use."""
    definitions_unknown: int = 0
    """Number of rows that do not tell how their features were defined, which are taken to fit."""
    left_out_by: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Number of rows by reason; a row may have several."""

    @property
    def numeric(self) -> list[str]:
        """The features that hold numbers."""
        return [name for name in self.features.columns if name not in {*self.text, *self.times}]

    @property
    def labels(self) -> npt.NDArray[np.int8]:
        """Labels (n,), 0 or 1."""
        return self.rows["label"].to_numpy().astype(np.int8)

    @property
    def event_times_ms(self) -> npt.NDArray[np.int64]:
        """Event times (n,)."""
        return self.rows["event_time_ms"].to_numpy()


def wait_for_archive(
    settings: Settings,
    model: str,
    wanted: Mapping[str, Sequence[int]],
    seconds_max: float = ARCHIVE_SECONDS_MAX,
) -> None:
    """Wait until the archive holds all records of a model below these offsets, by topic and partition.

    Topics other than the model's predictions and outcomes are ignored. Raises `ArchiveBehindError` after
    ``seconds_max``.
    """
    table_of = archived_topics(model)
    wanted = {topic: offsets for topic, offsets in wanted.items() if topic in table_of}
    deadline = time.monotonic() + seconds_max
    while missing := _missing(settings, wanted, table_of):
        if time.monotonic() > deadline:
            raise ArchiveBehindError(
                f"after {seconds_max:g} s the archive does not hold {'; '.join(missing)}: "
                "check whether the archive process is running"
            )
        time.sleep(ARCHIVE_POLL_SECONDS)


def wanted_offsets(request: RetrainingRequested, end_offsets: EndOffsets) -> dict[str, list[int]]:
    """Return the request's offsets for the topics of the training set, or without any the end offsets."""
    table_of = archived_topics(request.model)
    requested = {topic: list(offsets) for topic, offsets in request.offsets.items() if topic in table_of}
    return requested or {topic: list(offsets) for topic, offsets in end_offsets(list(table_of)).items()}


def archived_topics(model: str) -> dict[str, str]:
    """Return the table of each topic that a training set reads."""
    return {
        topics.predictions(model): inference_log.PREDICTIONS,
        topics.outcomes(model): inference_log.OUTCOMES,
    }


def _missing(
    settings: Settings, wanted: Mapping[str, Sequence[int]], table_of: Mapping[str, str]
) -> list[str]:
    missing = []
    for topic, offsets in wanted.items():
        archived = inference_log.positions(settings, table_of[topic], {topic: range(len(offsets))})[topic]
        missing += [
            f"{topic}/{partition} from offset {archived[partition]} to {offset}"
            for partition, offset in enumerate(offsets)
            if archived[partition] < offset
        ]
    return missing


_QUERY = """
    SELECT prediction_id, event_time_ms, o.label_time_ms, o.label, p.features_number, p.features_text,
           {feature_set} AS feature_set, p.partition AS request_partition, p.offset AS request_offset,
           o.source_offset AS label_offset, coalesce({correction}, 0) AS correction,
           p.version IS DISTINCT FROM o.version OR p.arm IS DISTINCT FROM o.arm
           OR p.score IS DISTINCT FROM o.score AS differs,
           coalesce({definition}, '') IN ('', $definition)
           AND o.label_time_ms - event_time_ms <= $horizon_ms AS fits
    FROM predictions p JOIN outcomes o USING (prediction_id, event_time_ms)
    WHERE p.model = $model AND o.model = $model AND o.label_time_ms <= $known_ms
"""
_ROW = ["prediction_id", "event_time_ms"]
_ORDER = (
    ("event_time_ms", "ascending"),
    ("prediction_id", "ascending"),
    ("correction", "descending"),
    ("differs", "ascending"),
    ("label_time_ms", "ascending"),
    ("request_partition", "ascending"),
    ("request_offset", "ascending"),
    ("label_offset", "ascending"),
)
"""The first row of each id and event time counts: its last label that was known then. An outcome has the id
and the event time of the prediction with which drift has joined the label, so one that was asked again has
none. Of two that were asked for at the same time, the outcome's version, arm and score tell which it is."""


def read(
    settings: Settings,
    declaration: ModelDeclaration,
    given: Inputs,
    known_ms: int,
    sets: FeatureSets | None = None,
    definitions: Mapping[str, str] | None = None,
) -> TrainingSet:
    """Read all rows whose label was known at an event time, each with its last value known then.

    Features are aligned by name: one that a row does not have is missing there. Rows are left out and counted
    if the names of their features are not known, if one of their features had another definition, or if
    their label has another definition than the declared one or came after the declared horizon. Rows that
    do not tell how their features were defined are kept, counted and logged.

    Args:
        settings: Where the archive is.
        declaration: The model's.
        given: The declared features in order.
        known_ms: The event time.
        sets: The published names and definitions of the features that rows hold.
        definitions: Digests of the present definitions, by feature; by default all rows fit them.

    Raises:
        InvalidDataError: No row is left.
    """
    model, opened = declaration.name, _tables(settings)
    with inference_log.connect(settings, opened) as connection:
        query = _query(opened[inference_log.PREDICTIONS], opened[inference_log.OUTCOMES])
        parameters = {
            "model": model,
            "known_ms": known_ms,
            "definition": label_definition(declaration),
            "horizon_ms": declaration.label.horizon_ms,
        }
        joined = connection.sql(query, params=parameters).to_arrow_table()
    if not joined.num_rows:
        raise InvalidDataError(
            "no prediction has a label that was known at the time of the request: wait for labels"
        )
    versions = {name: opened[name].version() for name in (inference_log.PREDICTIONS, inference_log.OUTCOMES)}
    sets = sets or FeatureSets()
    usable = {
        "unnamed": feature_columns.named_rows(joined, given, sets),
        "other_features": feature_columns.defined_rows(joined, definitions or {}, sets),
        "other_labels": joined["fits"].to_numpy(zero_copy_only=False).astype(np.bool_),
    }
    kept = _kept(usable, model)
    rows = joined.take(np.flatnonzero(kept)) if not kept.all() else joined
    return dataclasses.replace(
        _training_set(rows, given, sets, versions),
        left_out=int(np.count_nonzero(~kept)),
        left_out_by={reason: int(np.count_nonzero(~fits)) for reason, fits in usable.items()},
        definitions_unknown=_definitions_unknown(rows, definitions or {}, sets, model),
    )


def _tables(settings: Settings) -> "Mapping[str, DeltaTable]":
    """Return the tables of the archive; raise `InvalidDataError` if one that is needed does not exist yet."""
    opened = inference_log.tables(settings)
    absent = {inference_log.PREDICTIONS, inference_log.OUTCOMES} - opened.keys()
    if absent:
        raise InvalidDataError(
            f"the archive has no table {', '.join(sorted(absent))} yet: is the archive running?"
        )
    return opened


def _definitions_unknown(
    rows: "pa.Table", definitions: Mapping[str, str], sets: FeatureSets, model: str
) -> int:
    """Return the number of rows that do not tell how their features were defined, and log it."""
    count = int(np.count_nonzero(feature_columns.undefined_rows(rows, definitions, sets)))
    if count:
        _log.warning("retraining.definitions_unknown", model=model, rows=count, of=rows.num_rows)
    return count


def _query(predictions: "DeltaTable", outcomes: "DeltaTable") -> str:
    return _QUERY.format(
        feature_set=_column(predictions, "p", "feature_set"),
        definition=_column(outcomes, "o", "definition"),
        correction=_column(outcomes, "o", "correction", "INTEGER"),
    )


def _column(table: "DeltaTable", alias: str, name: str, kind: str = "VARCHAR") -> str:
    """Return the SQL of a column that a table of an older version does not have."""
    exists = any(field.name == name for field in table.schema().fields)
    return f"{alias}.{name}" if exists else f"CAST(NULL AS {kind})"


_NONE_LEFT = {
    "unnamed": "has features whose names are known: they were served before the features were changed, or "
    "their names are not in the models topic; wait for labels of newer rows",
    "other_features": "has its features as the feature views define them now: the views were changed after "
    "these rows were written; wait for labels of newer rows",
    "other_labels": "has a label as model.yaml declares it now: the task, classes or label were changed "
    "after these rows were written; wait for newer labels",
}


def _kept(usable: Mapping[str, npt.NDArray[np.bool_]], model: str) -> npt.NDArray[np.bool_]:
    """Return the rows (n,) that are usable in every respect; raise `InvalidDataError` if there is none."""
    kept = np.ones(len(usable["unnamed"]), dtype=np.bool_)
    for reason, fits in usable.items():
        kept &= fits
        if not kept.any():
            raise InvalidDataError(f"none of {len(kept)} rows {_NONE_LEFT[reason]}")
    if not kept.all():
        counts = {reason: int(np.count_nonzero(~fits)) for reason, fits in usable.items()}
        rows = int(np.count_nonzero(~kept))
        _log.warning("retraining.rows_left_out", model=model, rows=rows, of=len(kept), **counts)
    return kept


def since_change(data: TrainingSet, from_ms: int, retraining: Retraining) -> TrainingSet:
    """Return the rows from an event time on, or all rows if too few of them are before the held-out days."""
    times_ms = data.event_times_ms
    kept = times_ms >= from_ms
    before = kept & (times_ms <= times_ms.max() - round(retraining.holdout_days * DAY_MS))
    if np.count_nonzero(before) < retraining.minimum_labels:
        return data
    rows = data.rows[kept].reset_index(drop=True)
    version = dataclasses.replace(
        data.version, sha256=_digest(rows), rows=len(rows), first_event_ms=int(times_ms[kept].min())
    )
    features = data.features[kept].reset_index(drop=True)
    return dataclasses.replace(data, rows=rows, features=features, version=version)


def _training_set(
    joined: "pa.Table", given: Inputs, sets: FeatureSets, versions: Mapping[str, int]
) -> TrainingSet:
    """Order the rows, one for each request; in DuckDB, which sorts the wide rows, it takes twice as long."""
    import pandas as pd
    import pyarrow.compute as pc

    order = pc.sort_indices(joined, sort_keys=list(_ORDER)).to_numpy()
    narrow = (
        joined.select(["prediction_id", "event_time_ms", "label_time_ms", "label"]).to_pandas().iloc[order]
    )
    first = ~narrow.duplicated(_ROW).to_numpy()
    rows = narrow[first].reset_index(drop=True)
    found = feature_columns.columns(joined, given, sets)
    columns = {name: column[order[first]] for name, column in found.items()}
    times = [name for name, kind in given.items() if kind is InputKind.TIME]
    kept = {name: pd.Series(columns[name], dtype=object) for name in times}  # pandas would convert datetimes
    return TrainingSet(
        rows=rows,
        features=pd.DataFrame(columns | kept, columns=list(given), copy=False),
        text=[name for name, kind in given.items() if kind is InputKind.TEXT],
        times=times,
        version=DataVersion(
            tables=versions,
            sha256=_digest(rows),
            rows=len(rows),
            first_event_ms=int(rows["event_time_ms"].iloc[0]),
            last_event_ms=int(rows["event_time_ms"].iloc[-1]),
        ),
    )


def _digest(rows: "pd.DataFrame") -> str:
    digest = hashlib.sha256("\n".join(rows["prediction_id"]).encode())
    digest.update(rows["label"].to_numpy().tobytes())
    return digest.hexdigest()
