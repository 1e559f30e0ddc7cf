"""How a version's inputs are handed to it: with the types and the missing values that its author saw.

Scoring keeps numbers as float64 and texts as objects, where a missing one is nan or None. A model may need
other types, and most encoders treat None and nan as two categories. So each version has a file that names
both for every input. Versions that were registered without that file get what they were registered with.
"""

import datetime as dt
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from services.feature_store.missing_values import is_missing
from services.model_registry import model_inputs
from services.model_registry.model_inputs import Columns, InputKind, Inputs, InputsError
from streams.codec import FieldType

if TYPE_CHECKING:
    import pandas as pd

FILE = "inputs.json"

Array = npt.NDArray[Any]
Conversion = Callable[[Array], Any]
"""Returns a served column (n,) as the model gets it: an array, or an array of pandas."""


class ColumnType(StrEnum):
    """The type that a model gets, by MLflow's names."""

    DOUBLE = "double"
    FLOAT = "float"
    LONG = "long"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    STRING = "string"
    DATETIME = "datetime"
    """datetime64[ns] in UTC, without a time zone."""


class Marker(StrEnum):
    """The representation of a missing value."""

    NAN = "nan"
    """nan for a number or a text; for a time it is NaT, for a whole number or a boolean pandas.NA."""
    NONE = "none"
    VALUE = "value"
    """A value of the author's own, such as -999."""
    REFUSED = "refused"
    """The model gets no row without a value."""


class ColumnFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The type of one input, and how it represents a missing value."""

    type: ColumnType
    marker: Marker
    value: float | str | None = None
    """The value that represents a missing one, with `Marker.VALUE`."""


Formats = Mapping[str, ColumnFormat]

_DTYPES: Mapping[ColumnType, Any] = {
    ColumnType.DOUBLE: np.float64,
    ColumnType.FLOAT: np.float32,
    ColumnType.LONG: np.int64,
    ColumnType.INTEGER: np.int32,
    ColumnType.BOOLEAN: np.bool_,
}
_WITH_MISSING = {
    ColumnType.LONG: "Int64",
    ColumnType.INTEGER: "Int32",
    ColumnType.BOOLEAN: "boolean",
}
"""pandas' types of columns whose numpy type has no missing value."""
WHOLE = frozenset(_WITH_MISSING)
"""The types whose numpy type has no missing value."""


class RowsError(InputsError):
    """Rows cannot be handed to a model; the others can."""

    def __init__(self, reasons: Mapping[int, str]) -> None:
        """Take the reasons by row."""
        first = min(reasons)
        others = f", and {len(reasons) - 1} other rows" if len(reasons) > 1 else ""
        super().__init__(f"{reasons[first]} (row {first}{others})")
        self.reasons = dict(reasons)

    def __reduce__(self) -> tuple[Any, ...]:
        """Be sent to another process."""
        return RowsError, (self.reasons,)


def as_served(kinds: Inputs) -> dict[str, ColumnFormat]:
    """Return the formats that change nothing: float64 with nan, objects with None."""
    return {name: _AS_SERVED[kind] for name, kind in kinds.items()}


_AS_SERVED = {
    InputKind.NUMBER: ColumnFormat(ColumnType.DOUBLE, Marker.NAN),
    InputKind.TEXT: ColumnFormat(ColumnType.STRING, Marker.NONE),
    InputKind.TIME: ColumnFormat(ColumnType.DATETIME, Marker.NAN),
}


def write(folder: Path, formats: Formats) -> None:
    """Write the formats into a version's folder."""
    (folder / FILE).write_bytes(msgspec.json.encode(dict(formats)))


def read(folder: Path, kinds: Inputs) -> Formats:
    """Return the formats in a version's folder; those of `as_served` if it has no such file.

    Raises `InputsError` for a file that cannot be read.
    """
    path = folder / FILE
    if not path.is_file():
        return as_served(kinds)
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, ColumnFormat])
    except (OSError, msgspec.DecodeError) as error:
        raise InputsError(f"its {FILE} cannot be read: {error}: register it again") from error


class InputFormat:
    """Converts served columns to those that a model gets."""

    def __init__(self, formats: Formats, fields: Mapping[str, FieldType] | None = None) -> None:
        """Prepare the conversions.

        Args:
            formats: Formats of all inputs, by name in the model's order.
            fields: The declared types of those inputs that are fields of the request.
        """
        self.formats = formats
        fields = fields or {}
        self._conversions = {
            name: convert
            for name, format_ in formats.items()
            if (convert := _conversion(name, format_, fields.get(name))) is not None
        }

    @property
    def is_plain(self) -> bool:
        """Whether every number is a float64, and every other input a text."""
        return all(each.type in (ColumnType.DOUBLE, ColumnType.STRING) for each in self.formats.values())

    def columns(self, served: Columns) -> Columns:
        """Return the columns as the model gets them; raise `RowsError` for rows that it cannot get."""
        if not self._conversions:
            return served
        converted: dict[str, Any] = dict(served)
        reasons: dict[int, str] = {}
        for name, convert in self._conversions.items():
            try:
                converted[name] = convert(served[name])
            except RowsError as error:
                reasons = error.reasons | reasons
        if reasons:
            raise RowsError(reasons)
        return converted

    def frame(self, served: Columns) -> "pd.DataFrame":
        """Return `columns` as a DataFrame."""
        return model_inputs.frame(self.columns(served), list(self.formats))


def _conversion(name: str, format_: ColumnFormat, field: FieldType | None) -> Conversion | None:
    """Return the conversion of a column; None if the model gets what is served."""
    if format_ == _AS_SERVED[InputKind.NUMBER]:
        return _rounded if field is FieldType.INT else None
    if format_.type is ColumnType.STRING:
        is_time = field is FieldType.TIMESTAMP
        if format_.marker is Marker.NONE:
            return _texts_of_times if is_time else None
        marked = _marked_texts(format_)
        convert = (lambda column: marked(_texts_of_times(column))) if is_time else marked
    else:
        convert = _times(name) if format_.type is ColumnType.DATETIME else _numbers(name, format_)
    return _refusing(name, format_, convert) if format_.marker is Marker.REFUSED else convert


def _refusing(name: str, format_: ColumnFormat, convert: Conversion) -> Conversion:
    def refuse_or_convert(column: Array) -> Any:
        missing = is_missing(column)
        if missing.any():
            reason = f"its input {name!r} has no value, but the model needs a {format_.type}"
            raise RowsError(dict.fromkeys(np.flatnonzero(missing).tolist(), reason))
        return convert(column)

    return refuse_or_convert


def _rounded(column: Array) -> Array:
    return column if column.dtype == np.float64 else column.astype(np.float64)


def _marked_texts(format_: ColumnFormat) -> Conversion:
    marker = format_.value if format_.marker is Marker.VALUE else np.nan

    def convert(column: Array) -> Array:
        values = column.tolist()
        if None not in values:  # nearly always, and faster than a comparison of arrays
            return column
        return _objects([marker if value is None else value for value in values])

    return convert


def _texts_of_times(column: Array) -> Array:
    return _objects([text_of(value) for value in column.tolist()])


def _objects(values: list[Any]) -> Array:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def text_of(value: Any) -> Any:
    """Return a time as the text of a prediction record, in RFC 3339; any other value unchanged."""
    return msgspec.to_builtins(value) if isinstance(value, dt.datetime) else value


def _times(name: str) -> Conversion:
    def convert(column: Array) -> Array:
        plain = [
            np.datetime64("NaT") if value is None else value.astimezone(dt.UTC).replace(tzinfo=None)
            for value in column.tolist()
        ]
        exact = np.array(plain, dtype="datetime64[us]")
        cast = exact.astype("datetime64[ns]")
        _check_exact(name, ColumnType.DATETIME, column, (cast.astype(exact.dtype) == exact) | np.isnat(exact))
        return cast

    return convert


def _numbers(name: str, format_: ColumnFormat) -> Conversion:
    """Return the conversion to a type of numbers, which changes no value except to a float's precision."""
    dtype, with_missing = _DTYPES[format_.type], _WITH_MISSING.get(format_.type)

    def convert(column: Array) -> Any:
        missing = is_missing(column)
        has_missing = bool(missing.any())
        present = np.where(missing, _placeholder(format_), column) if has_missing else column
        with np.errstate(invalid="ignore", over="ignore"):
            cast = present.astype(dtype)
        if with_missing is not None:
            _check_exact(name, format_.type, column, cast == present)
        if format_.marker is Marker.NAN and with_missing is not None:
            return _nullable(cast, missing, with_missing)
        if format_.marker is Marker.NONE and has_missing:
            cast = cast.astype(object)
            cast[missing] = None
        return cast

    return convert


def _placeholder(format_: ColumnFormat) -> Any:
    """Return the number that represents a missing value in a numpy array."""
    if format_.marker is Marker.VALUE:
        return format_.value
    return 0 if format_.type in _WITH_MISSING else np.nan


def _nullable(cast: Array, missing: npt.NDArray[np.bool_], dtype: str) -> Any:
    import pandas as pd

    array: Any = pd.array  # its stubs do not know a dtype that is a variable
    column = array(cast, dtype=dtype)
    column[missing] = pd.NA
    return column


def _check_exact(name: str, type_: ColumnType, column: Array, is_exact: Array) -> None:
    if is_exact.all():
        return
    wrong = np.flatnonzero(~np.asarray(is_exact, dtype=bool)).tolist()
    raise RowsError(
        {
            row: f"its input {name!r} is {column[row]!s}, which is no {type_}, as the model needs"
            for row in wrong
        }
    )
