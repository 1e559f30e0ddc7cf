"""The rows of a training set, from the inference log to a file: served predictions with their outcomes.

DuckDB joins and sorts outside of memory, and the file is written slice by slice: what this takes does not
grow with the number of rows. Ray does so on several machines, if the settings say so.
"""

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import structlog

from services.model_registry.model_inputs import InputKind, Inputs
from services.monitoring import inference_log
from services.monitoring.label_definition import label_definition
from services.monitoring.label_values import absent_label
from services.retraining import feature_columns, ray_rows, row_source, training_set
from services.retraining.errors import InvalidDataError
from services.retraining.row_source import DuckDbRows, RowCount, RowSource
from services.retraining.training_set import (
    ROW_COLUMNS,
    Columns,
    DataDescription,
    ParquetFile,
    TrainingSet,
)
from services.runtime.declaration import DAY_MS, ModelDeclaration
from services.runtime.settings import Settings
from streams.feature_sets import FeatureSets
from streams.inputs import BEFORE_ALL_MS

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable

_log = structlog.get_logger()

ROWS_MAX = 1 << 62
MEMORY_MIB = 1024
"""Memory of DuckDB; what does not fit is on disk, beside the file."""


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Which rows are wanted."""

    declaration: ModelDeclaration
    given: Inputs
    """The declared features in order."""
    known_ms: int
    """Labels count with the value that was known at this event time."""
    sets: FeatureSets = dataclasses.field(default_factory=FeatureSets)
    """The published names and definitions of the features that rows hold."""
    definitions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Digests of the present definitions, by feature; by default all rows fit them."""
    change_ms: int | None = None
    """Start of the rows if there are enough since then; see ``retraining.window``."""
    tables: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Versions of the Delta tables; empty: the latest."""
    labels_ms: int | None = None
    """With ``label.absent``: the latest event time of a label that was joined. Up to here a label that is not
    in the archive did not come; a later one may have been read by nobody so far. None: as ``known_ms``."""

    @property
    def mature_ms(self) -> int:
        """The last event time whose label horizon had passed: later labels may still have come.

        A label that comes early is no reason to take its row: where the delay depends on the class, the rows
        of the last days would be of one class.
        """
        known_ms = self.known_ms if self.labels_ms is None else min(self.known_ms, self.labels_ms)
        return known_ms - self.declaration.label.horizon_ms


def extract(settings: Settings, wanted: Wanted, path: Path) -> DataDescription:
    """Write all rows whose label was known and mature at an event time, in the order of event time and id.

    Features are aligned by name: one that a row does not have is missing there. Rows are left out and counted
    if the names of their features are not known, if one of their features had another definition, or if
    their label has another definition than the declared one or did not come within the declared horizon. Rows
    that do not tell how their features were defined are kept, counted and logged.

    Raises:
        InvalidDataError: No row is left.
    """
    opened = _tables(settings, wanted.tables)
    if wanted.declaration.label.absent is not None:
        labels_ms = _labels_ms(opened[inference_log.OUTCOMES], wanted)
        wanted = dataclasses.replace(wanted, labels_ms=labels_ms)
    with _source(settings, opened, _joined(opened, wanted), path.parent) as source:
        counts = _counts(source, wanted)
        limits = _limits(source, wanted)
        with ParquetFile(path, wanted.given) as file:
            in_texts = _write(source, wanted, limits, file)
    left_out_by = counts.left_out_by | ({"number_in_text": in_texts} if in_texts else {})
    if not file.rows:
        raise InvalidDataError(f"none of {in_texts} rows {_NONE_LEFT['number_in_text']}")
    versions = {name: opened[name].version() for name in (inference_log.PREDICTIONS, inference_log.OUTCOMES)}
    description = DataDescription(
        version=file.version(versions),
        text=[name for name, kind in wanted.given.items() if kind is InputKind.TEXT],
        times=[name for name, kind in wanted.given.items() if kind is InputKind.TIME],
        left_out=counts.left_out + in_texts,
        left_out_by=left_out_by,
        definitions_unknown=counts.definitions_unknown,
        immature=counts.immature,
        beyond_caps=limits.rows_before - file.rows - in_texts,
    )
    _log_counts(wanted.declaration.name, description)
    return description


@contextlib.contextmanager
def _source(
    settings: Settings, opened: "Mapping[str, DeltaTable]", joined: str, folder: Path
) -> Iterator[RowSource]:
    """Yield what runs the queries; the folder is for what does not fit into memory."""
    if settings.retraining_engine == "ray":
        with ray_rows.connected():
            yield ray_rows.RayRows(
                settings, {name: table.version() for name, table in opened.items()}, joined
            )
        return
    with inference_log.connect(settings, opened) as connection:
        connection.execute(f"SET memory_limit = '{MEMORY_MIB}MiB'")
        connection.execute(f"SET temp_directory = '{folder / 'duckdb'}'")
        yield DuckDbRows(connection, joined)


def _log_counts(model: str, found: DataDescription) -> None:
    if found.left_out:
        _log.warning(
            "retraining.rows_left_out", model=model, rows=found.left_out, kept=found.version.rows,
            **found.left_out_by,
        )  # fmt: skip
    if found.definitions_unknown:
        _log.warning("retraining.definitions_unknown", model=model, rows=found.definitions_unknown)


def _tables(settings: Settings, versions: Mapping[str, int]) -> "Mapping[str, DeltaTable]":
    """Return the tables of the archive; raise `InvalidDataError` if one that is needed does not exist yet."""
    opened = inference_log.tables(settings, versions)
    absent = {inference_log.PREDICTIONS, inference_log.OUTCOMES} - opened.keys()
    if absent:
        raise InvalidDataError(
            f"the archive has no table {', '.join(sorted(absent))} yet: is the archive running?"
        )
    for name in versions.keys() & opened.keys():
        _check_files(name, opened[name])
    return opened


def _check_files(name: str, table: "DeltaTable") -> None:
    """Raise `InvalidDataError` if an earlier version of a table on this machine lacks files."""
    if lacking := sum("://" not in uri and not Path(uri).is_file() for uri in table.file_uris()):
        raise InvalidDataError(
            f"version {table.version()} of the table {name} lacks {lacking} files and can be read no more: "
            "data of a subject were erased, see 'driftline ledger list --kind erasure'; train a new version"
        )


def _joined(opened: "Mapping[str, DeltaTable]", wanted: Wanted) -> str:
    predictions, outcomes = opened[inference_log.PREDICTIONS], opened[inference_log.OUTCOMES]
    label, absent = wanted.declaration.label, absent_label(wanted.declaration)
    parts = (row_source.LABELLED,) if absent is None else (row_source.LABELLED, row_source.IMPLIED)
    return ("CREATE TEMP VIEW joined AS" + " UNION ALL ".join(parts)).format(
        feature_set=_column_of(predictions, "p", "feature_set"),
        definition=_column_of(outcomes, "o", "definition"),
        correction=_column_of(outcomes, "o", "correction", "INTEGER"),
        model=wanted.declaration.name,  # a name of letters, digits and underscores
        label_definition=label_definition(wanted.declaration),
        horizon_ms=label.horizon_ms,
        waits_ms=label.waits_ms,
        known_ms=wanted.known_ms,
        mature_ms=wanted.mature_ms,
        absent=absent,
    )


def _labels_ms(outcomes: "DeltaTable", wanted: Wanted) -> int:
    """Return the latest event time of a label of the model that is in the archive."""
    import duckdb

    with duckdb.connect() as connection:
        connection.register("outcomes", outcomes.to_pyarrow_dataset())
        query = "SELECT max(label_time_ms) FROM outcomes WHERE model = ?"
        ((found,),) = connection.execute(query, [wanted.declaration.name]).fetchall()
    return BEFORE_ALL_MS if found is None else int(found)


def _column_of(table: "DeltaTable", alias: str, name: str, kind: str = "VARCHAR") -> str:
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
    "number_in_text": "has texts in all features that are declared as text: some hold numbers; change their "
    "type in model.yaml or in the feature view",
}


class _Counts(NamedTuple):
    left_out: int
    left_out_by: dict[str, int]
    definitions_unknown: int
    immature: int


def _counts(source: RowSource, wanted: Wanted) -> _Counts:
    """Count the rows by kind, and tell the source which digests and widths can be read."""
    import pyarrow as pa

    found = source.kinds()
    _check_any(found, wanted)
    mature = [row for row in found if row.is_mature]
    kinds = [
        feature_columns.kind_of_rows(
            row.feature_set, row.width, wanted.given, wanted.sets, wanted.definitions
        )
        for row in mature
    ]
    number = np.array([row.rows for row in mature], dtype=np.int64)
    fits = {
        "unnamed": np.array([kind.is_named for kind in kinds]),
        "other_features": np.array([kind.is_defined for kind in kinds]),
        "other_labels": np.array([row.fits for row in mature]),
    }
    kept = _kept(fits, number)
    usable = sorted(
        {
            row[:2]
            for row, keep in zip(mature, (fits["unnamed"] & fits["other_features"]).tolist(), strict=True)
            if keep
        }
    )
    columns = list(zip(*usable, strict=True)) or [(), ()]
    source.use(
        pa.table(
            {"feature_set": pa.array(columns[0], pa.string()), "width": pa.array(columns[1], pa.int64())}
        )
    )
    unknown = np.array([not kind.tells_definitions for kind in kinds])
    return _Counts(
        left_out=int(number[~kept].sum()),
        left_out_by={reason: int(number[~each].sum()) for reason, each in fits.items()},
        definitions_unknown=int(number[kept & unknown].sum()),
        immature=sum(row.rows for row in found if not row.is_mature),
    )


def _check_any(found: list[RowCount], wanted: Wanted) -> None:
    if not found:
        raise InvalidDataError(
            "no prediction has a label that was known at the time of the request: wait for labels"
        )
    if not any(row.is_mature for row in found):
        count = sum(row.rows for row in found)
        raise InvalidDataError(
            f"none of {count} labelled predictions is older than label.horizon_hours "
            f"({wanted.declaration.label.horizon_hours:g} h) at the time of the request: their labels may "
            "still be corrected, and of others like them no label has come yet; wait for this time"
        )


def _kept(fits: Mapping[str, npt.NDArray[np.bool_]], number: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return the kinds of rows that fit in every respect; raise `InvalidDataError` if there is none."""
    kept = np.ones(len(number), dtype=np.bool_)
    for reason, each in fits.items():
        kept &= each
        if not kept.any():
            raise InvalidDataError(f"none of {number.sum()} rows {_NONE_LEFT[reason]}")
    return kept


class _Limits(NamedTuple):
    """Which of the usable rows are written: the latest ones from an event time on, up to a maximum."""

    from_ms: int | None
    rows_max: int | None
    rows_before: int
    """Number of rows before the caps are applied."""


def _limits(source: RowSource, wanted: Wanted) -> _Limits:
    retraining = wanted.declaration.retraining
    rows, last_ms = source.span(0)
    from_ms = None
    if retraining.max_days is not None:
        from_ms = last_ms - round(retraining.max_days * DAY_MS)
    change_ms = wanted.change_ms
    if retraining.window == "since_change" and change_ms is not None and change_ms > (from_ms or 0):
        since, _ = source.span(change_ms)
        held_out, _ = source.span(last_ms - round(retraining.holdout_days * DAY_MS) + 1)
        if since - held_out >= retraining.minimum_labels:
            from_ms, rows = change_ms, since
    return _Limits(from_ms, retraining.max_rows, rows)


def _write(source: RowSource, wanted: Wanted, limits: _Limits, file: ParquetFile) -> int:
    """Write the chosen rows; return how many were left out because a text feature holds a number."""
    batches = source.ordered(limits.from_ms or 0, limits.rows_max or ROWS_MAX)
    return sum(_write_slice(batch, wanted, file) for batch in batches)


def _write_slice(batch: "pa.RecordBatch", wanted: Wanted, file: ParquetFile) -> int:
    import pyarrow as pa

    table = pa.Table.from_batches([batch])
    features = feature_columns.columns(table, wanted.given, wanted.sets)
    kept = np.ones(table.num_rows, dtype=np.bool_)
    for name, kind in wanted.given.items():
        if kind is InputKind.TEXT:
            kept &= ~feature_columns.holds_numbers(features[name])
    rows = {name: table[name].to_numpy()[kept] for name in ROW_COLUMNS}
    file.write(rows, _taken(features, kept))
    return int(np.count_nonzero(~kept))


def _taken(features: Columns, kept: npt.NDArray[np.bool_]) -> Columns:
    return features if kept.all() else {name: column[kept] for name, column in features.items()}


def read(settings: Settings, wanted: Wanted) -> TrainingSet:
    """Return the rows in memory; raises as `extract`."""
    with tempfile.TemporaryDirectory(prefix="driftline-rows-") as folder:
        path = Path(folder) / "rows.parquet"
        return training_set.read(path, extract(settings, wanted, path))
