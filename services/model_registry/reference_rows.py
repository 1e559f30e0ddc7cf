"""A file of rows from which the reference of a version that was trained elsewhere is made.

The rows are as the model is given them, one column for each feature. The scores are not taken from the file:
the version itself computes them, loaded as scoring loads it.
"""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from services.feature_store.missing_values import MissingPolicy
from services.model_registry import model_inputs
from services.model_registry.contract import Model
from services.model_registry.golden_batch import one_line
from services.model_registry.model_inputs import InputKind, Inputs, InputsError
from services.monitoring import reference
from services.monitoring.label_values import LabelValues
from services.monitoring.reference import PREDICTION, SCORE, KnownOutputs, KnownRows
from services.runtime.declaration import REFERENCE_ROWS_MIN, ModelDeclaration
from streams import codec
from streams.defects import panics_as_errors
from streams.json_decoder import InvalidRecordError
from streams.records import Reference

if TYPE_CHECKING:
    import pandas as pd

ROWS_MAX = 1_000_000
"""Maximum rows; they are in memory at once, and more make no test better."""
CALL_ROWS = 10_000
"""Rows of one call of the model."""


class ReferenceFileError(ValueError):
    """No reference can be made from a file. The message names the file, the column and the remedy."""


@dataclasses.dataclass(frozen=True)
class ReferenceRows:
    """The rows of a file, checked."""

    path: Path
    columns: dict[str, npt.NDArray[Any]]
    """(n,) by feature, as served; see `InputKind`."""
    kinds: Inputs
    labels: npt.NDArray[np.float64] | None
    """(n,), see `streams.records.Label.value`; None if the file has no column of labels."""
    times_ms: npt.NDArray[np.int64] | None
    """(n,) event times; None if the file has no column of them."""
    declaration: ModelDeclaration

    @property
    def count(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values())))

    def compared(self) -> dict[str, npt.NDArray[Any]]:
        """Return the columns whose distribution is compared: neither times nor texts that are ids."""
        found = {name: self.columns[name] for name in self.kinds if self._is_compared(name)}
        numbers = {name for name in found if self.kinds[name] is InputKind.NUMBER}
        return {
            name: values.astype(np.float64) if name in numbers else values for name, values in found.items()
        }

    def _is_compared(self, name: str) -> bool:
        kind = self.kinds[name]
        is_id = kind is InputKind.TEXT and reference.is_id(self.columns[name])
        return kind is not InputKind.TIME and not is_id

    def make(self, model: Model, wanted: Inputs) -> Reference:
        """Return the reference of a model; it has no version yet.

        Args:
            model: The version, loaded as in scoring.
            wanted: Its inputs.

        Raises:
            ReferenceFileError: The file lacks an input, or the model cannot score a row.
        """
        if absent := [name for name in wanted if name not in self.columns]:
            raise _error(self.path, f"has no column {', '.join(absent)}, an input of the model: add it")
        times_ms = np.zeros(self.count, dtype=np.int64) if self.times_ms is None else self.times_ms
        outputs = self._outputs(model, wanted)
        rows, known = KnownRows(self.compared(), times_ms), KnownOutputs(outputs, self.labels, times_ms)
        return reference.build(0, rows, known, self.declaration)

    def _outputs(self, model: Model, wanted: Inputs) -> npt.NDArray[np.float64]:
        parts = []
        for start in range(0, self.count, CALL_ROWS):
            part = {name: self.columns[name][start : start + CALL_ROWS] for name in wanted}
            try:
                with panics_as_errors():
                    parts.append(np.asarray(model.predict(part), dtype=np.float64))
            except (Exception, SystemExit) as error:  # whatever a model or its library raises
                rows = f"rows {start + 1} to {min(start + CALL_ROWS, self.count)}"
                raise _error(self.path, f"the model fails on {rows}: {one_line(error)}") from error
        outputs = np.concatenate(parts)
        finite = np.isfinite(outputs.reshape(len(outputs), -1)).all(axis=1)
        if not finite.all():
            raise _error(
                self.path,
                f"the model's output for row {int(np.argmin(finite)) + 1} is not a finite number: "
                "remove such rows, or mend the model",
            )
        return outputs

    def summary(self) -> str:
        """Return in one line what is known, and what is not."""
        known = self.compared()
        left_out = [name for name in self.kinds if name not in known]
        label, time = self.declaration.label.value, self.declaration.request.event_time
        parts = [f"{self.count:,} rows, {len(known)} features"]
        if self.labels is None:
            parts.append(f"no labels (column {label}): the loss is compared with that of the first labels")
        if self.times_ms is None:
            parts.append(f"no event times (column {time}): rows count as independent")
        if left_out:
            parts.append(f"not compared: {', '.join(left_out)}")
        return "; ".join(parts)


def read(path: Path, declaration: ModelDeclaration, given: Inputs) -> ReferenceRows:
    """Read and check a file (.parquet or .csv).

    Args:
        path: Its columns are features by name. The columns of the labels and of the event times are optional;
            they have the names ``label.value`` and ``request.event_time`` of the declaration.
        declaration: The model's.
        given: What is served to the model.

    Raises:
        ReferenceFileError: The file cannot be used.
    """
    frame = _frame(path, given)
    if not REFERENCE_ROWS_MIN <= len(frame) <= ROWS_MAX:
        raise _error(path, f"has {len(frame):,} rows: give {REFERENCE_ROWS_MIN} to {ROWS_MAX:,}")
    kinds = {name: kind for name, kind in given.items() if name in frame.columns}
    if not kinds:
        raise _error(path, f"has no column of a feature; features are {', '.join(given)}")
    _check_declared(path, declaration, given, frame)
    columns = _columns(path, frame, kinds)
    missing = declaration.features.missing
    fill = {name: value for name, value in missing.fill.items() if name in columns}
    policy = MissingPolicy(missing.model_copy(update={"fill": fill, "reject": ()}), list(columns))
    labels = _labels(path, frame, declaration) if declaration.label.value not in given else None
    return ReferenceRows(
        path, policy.fill(columns), kinds, labels, _times_ms(path, frame, declaration), declaration
    )


def _frame(path: Path, given: Inputs) -> "pd.DataFrame":
    import pandas as pd

    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        if path.suffix == ".csv":
            texts = {name: "str" for name, kind in given.items() if kind is not InputKind.NUMBER}
            return pd.read_csv(path, dtype=texts)  # a text of digits stays a text
    except (OSError, ValueError) as error:
        raise _error(path, f"cannot be read: {one_line(error)}") from error
    raise _error(path, "has an unsupported format: give .parquet or .csv")


def _check_declared(path: Path, declaration: ModelDeclaration, given: Inputs, frame: "pd.DataFrame") -> None:
    """Refuse a file without the columns that monitoring needs."""
    monitoring, time = declaration.monitoring, declaration.request.event_time
    for name in monitoring.segments:
        if name in given and name not in frame.columns:
            raise _error(path, f"has no column {name}, which monitoring.segments names: add it")
    seasonal = [name for name in monitoring.season if name in {*frame.columns, SCORE, PREDICTION}]
    if seasonal and time not in frame.columns:
        raise _error(
            path,
            f"has no column {time}, the event time, which monitoring.season needs for "
            f"{', '.join(seasonal)}: add it",
        )


def _columns(path: Path, frame: "pd.DataFrame", kinds: Inputs) -> dict[str, npt.NDArray[Any]]:
    try:
        columns = model_inputs.columns_of(frame, kinds)
    except InputsError as error:
        raise _error(path, f"{error}: convert it") from error
    for name, kind in kinds.items():
        if kind is InputKind.NUMBER:
            _check_finite(path, name, columns[name])
    return columns


def _check_finite(path: Path, name: str, column: npt.NDArray[Any]) -> None:
    infinite = np.isinf(column.astype(np.float64))
    if infinite.any():
        first = int(np.argmax(infinite)) + 1
        raise _error(
            path,
            f"column {name!r} has {np.count_nonzero(infinite)} infinite values, the first in row {first}: "
            "leave these values empty, as they are served, or remove the rows",
        )


def _labels(
    path: Path, frame: "pd.DataFrame", declaration: ModelDeclaration
) -> npt.NDArray[np.float64] | None:
    name, values = declaration.label.value, LabelValues(declaration)
    if name not in frame.columns:
        return None
    if missing := int(frame[name].isna().sum()):
        raise _error(path, f"column {name!r} has {missing} rows without a label: remove them, or the column")
    remedy = "write labels as the label topic has them"
    return np.array(_each(values.number, frame[name].tolist(), path, name, remedy), dtype=np.float64)


def _times_ms(
    path: Path, frame: "pd.DataFrame", declaration: ModelDeclaration
) -> npt.NDArray[np.int64] | None:
    name = declaration.request.event_time
    if name not in frame.columns:
        return None

    def time_ms(value: Any) -> int:
        time = model_inputs.time_of(value)
        if time is None or time != time:
            raise ValueError("the row has no event time")
        return codec.epoch_ms(time)

    return np.array(
        _each(time_ms, frame[name].tolist(), path, name, "write times in RFC 3339"), dtype=np.int64
    )


def _each(convert: Any, values: Iterable[Any], path: Path, name: str, remedy: str) -> list[Any]:
    found = []
    for row, value in enumerate(values, start=1):
        try:
            found.append(convert(value))
        except (InvalidRecordError, ValueError, TypeError, OverflowError) as error:
            raise _error(path, f"column {name!r}, row {row}: {error}: {remedy}") from error
    return found


def _error(path: Path, text: str) -> ReferenceFileError:
    return ReferenceFileError(f"the reference {path}: {text}")
