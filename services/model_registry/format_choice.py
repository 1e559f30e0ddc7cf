"""Finds the format of each input with which a model repeats its own scores of its author's rows.

The author's rows are read from a file, whose types are not those that are served. So the original model is
asked: with the rows as they are, and with the served columns in each format that may be meant. What cannot be
decided is refused.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from services.model_registry import golden_batch, input_format
from services.model_registry.golden_batch import GoldenError, one_line
from services.model_registry.input_format import ColumnFormat, ColumnType, Formats, InputFormat, Marker
from services.model_registry.model_inputs import Columns, InputKind, InputsError
from streams.codec import FieldType

if TYPE_CHECKING:
    import pandas as pd

Outputs = npt.NDArray[np.float64]

PROBES_MAX = 64
"""Maximum rows of a question to the model about one column."""
VALUE_LENGTH_MAX = 60


class Author(Protocol):
    """A model before it is saved."""

    def predict_frame(self, rows: "pd.DataFrame") -> Outputs:
        """Return the outputs for rows exactly as they are."""


@dataclasses.dataclass(frozen=True)
class AuthorRows:
    """The rows of an author, in the order of the model's inputs."""

    frame: "pd.DataFrame"
    """The rows as the author's model gets them."""
    columns: Columns
    """The same rows in the form in which they would be served."""
    kinds: Mapping[str, InputKind]
    """The type with which each input is served."""
    fields: Mapping[str, FieldType]
    """The declared types of those that are fields of the request."""

    def format(self, formats: Formats) -> InputFormat:
        """Return the conversion of the served columns."""
        return InputFormat(formats, self.fields)


def author_outputs(author: Author, rows: "pd.DataFrame") -> Outputs:
    """Return the model's own scores; raise `GoldenError`, which names the column, if it fails on them."""
    try:
        return author.predict_frame(rows)
    except Exception as error:  # whatever a library raises
        raise GoldenError(f"it fails on its rows at {_fault(author, rows)}: {one_line(error)}") from error


def typed_outputs(author: Author, rows: AuthorRows, formats: Formats) -> Outputs:
    """Return the scores of a model whose signature gives its types.

    They are MLflow's own for the rows as they are in their file. If its types are not those of the signature,
    MLflow gets the rows in those types. Raises `GoldenError` if the two differ, or if the model fails.
    """
    from mlflow.exceptions import MlflowException

    typed = rows.format(formats).frame(rows.columns)
    try:
        expected = author.predict_frame(rows.frame)
    except MlflowException:
        return author_outputs(author, typed)
    except Exception:  # noqa: BLE001  # of the model itself
        return author_outputs(author, rows.frame)
    if difference := _difference(author, rows, formats, expected):
        raise GoldenError(difference)
    return expected


def marked(rows: "pd.DataFrame", markers: Mapping[str, Any]) -> "pd.DataFrame":
    """Return rows whose missing values are replaced by these markers, by column."""
    found = {}
    for name, marker in markers.items():
        column = rows[name]
        if not column.isna().any():
            continue
        if column.dtype.kind in "biuf":
            found[name] = column if marker is None or isinstance(marker, str) else column.fillna(marker)
        else:
            found[name] = column.astype(object).where(column.notna(), marker)
    return rows.assign(**found)


def marker_of(kind: InputKind, marker: Any) -> ColumnFormat:
    """Return the simplest format with this missing value."""
    type_ = input_format.as_served({"": kind})[""].type
    if marker is None:
        return ColumnFormat(type_, Marker.NONE)
    if isinstance(marker, float) and np.isnan(marker):
        return ColumnFormat(type_, Marker.NAN)
    return ColumnFormat(type_, Marker.VALUE, marker)


def marker_in(column: "pd.Series[Any]") -> Any:
    """Return the missing value in a column of texts; KeyError if it has none."""
    missing = column[column.isna()].tolist()
    if not missing:
        raise KeyError(column.name)
    return None if missing[0] is None else np.nan


def choose(author: Author, rows: AuthorRows, formats: Formats, expected: Outputs) -> Formats:
    """Return formats with which the model repeats its outputs of the author's rows.

    Those given are the simplest ones. If they do not do, the whole numbers, booleans and single floats of
    the author's frame keep their types. Those that need not become float64 again, which may be missing.

    Raises `GoldenError` if the model does not repeat its outputs with these types either.
    """
    exact = {
        name: ColumnFormat(ColumnType.LONG, Marker.NAN if column.dtype == object else Marker.REFUSED)
        for name, column in rows.columns.items()
        if column.dtype != np.float64 and rows.kinds[name] is InputKind.NUMBER
    }
    simple = {**formats, **exact}
    if _repeats(author, rows, simple, expected):
        return simple
    typed = {**simple, **_types_of(rows)}
    difference = _difference(author, rows, typed, expected)
    if difference is not None:
        raise GoldenError(difference)
    for name in typed.keys() - exact.keys():
        looser = {**typed, name: simple[name]}
        if typed[name] != simple[name] and _repeats(author, rows, looser, expected):
            typed = looser
    return {name: typed[name] for name in formats}


def _types_of(rows: AuthorRows) -> dict[str, ColumnFormat]:
    found = {}
    for name, kind in rows.kinds.items():
        dtype = rows.frame[name].dtype
        if kind is InputKind.NUMBER and (type_ := _TYPES.get(str(dtype))) is not None:
            marker = Marker.NAN if type_ is ColumnType.FLOAT else Marker.REFUSED
            found[name] = ColumnFormat(type_, marker)
        elif kind is InputKind.NUMBER and (type_ := _NULLABLE.get(str(dtype))) is not None:
            found[name] = ColumnFormat(type_, Marker.NAN)
    return found


_TYPES = {
    **dict.fromkeys(("int64", "int16", "int8", "uint8", "uint16", "uint32"), ColumnType.LONG),
    "int32": ColumnType.INTEGER,
    "bool": ColumnType.BOOLEAN,
    "float32": ColumnType.FLOAT,
}
_NULLABLE = {"Int64": ColumnType.LONG, "Int32": ColumnType.INTEGER, "boolean": ColumnType.BOOLEAN}


def decide_missing(author: Author, rows: AuthorRows, formats: Formats, undecided: set[str]) -> Formats:
    """Return formats that also decide how a missing text is represented if the rows have none.

    The model scores None and nan. Raises `InputsError` if the scores differ.
    """
    few = {name: column[:PROBES_MAX] for name, column in rows.columns.items()}
    frame = rows.format(formats).frame(few)
    decided = dict(formats)
    for name in sorted(undecided):
        with_none, with_nan = (
            _outputs_or_none(author, _filled(frame, name, each)) for each in (None, np.nan)
        )
        if with_none is None and with_nan is not None:
            decided[name] = ColumnFormat(ColumnType.STRING, Marker.NAN)
        elif with_none is not None and with_nan is not None and not _are_equal(with_none, with_nan):
            raise InputsError(
                f"its input {name!r} may be missing, and the model's outputs for None and nan differ: give "
                f"rows that mark a missing {name!r} as the training data did (a CSV file gives nan, a "
                f"Parquet file None), or declare in features.missing what to do when {name!r} is missing"
            )
    return decided


def _filled(frame: "pd.DataFrame", name: str, value: Any) -> "pd.DataFrame":
    column = np.full(len(frame), value, dtype=object)
    return frame.assign(**{name: column})


def _outputs_or_none(author: Author, frame: "pd.DataFrame") -> Outputs | None:
    try:
        return author.predict_frame(frame)
    except Exception:  # noqa: BLE001  # this model takes no such row
        return None


def _are_equal(one: Outputs, other: Outputs) -> bool:
    return one.shape == other.shape and bool(golden_batch.nearly_equal(one, other).all())


def _repeats(author: Author, rows: AuthorRows, formats: Formats, expected: Outputs) -> bool:
    return _difference(author, rows, formats, expected) is None


def _difference(author: Author, rows: AuthorRows, formats: Formats, expected: Outputs) -> str | None:
    """Return how the outputs of the served columns differ from the author's; None if they do not."""
    try:
        found = author.predict_frame(rows.format(formats).frame(rows.columns))
    except Exception as error:  # noqa: BLE001  # whatever a library raises
        return f"it fails on its rows with the types that are served: {one_line(error)}"
    if found.shape != expected.shape:
        return f"its outputs for the served rows have the shape {found.shape}, expected {expected.shape}"
    near = golden_batch.nearly_equal(found, expected).reshape(len(expected), -1)
    wrong = np.flatnonzero(np.count_nonzero(near, axis=1) < near.shape[1])
    if not len(wrong):
        return None
    row = int(wrong[0])
    return (
        f"its outputs differ between its own rows and the same rows as served, in {len(wrong)} of "
        f"{len(near)} rows; the first is row {row} ({_described(rows.frame.iloc[row])}): {found[row]!s} "
        f"instead of {expected[row]!s}; its columns have the types "
        + ", ".join(f"{name} {dtype}" for name, dtype in rows.frame.dtypes.items())
    )


def _described(row: "pd.Series[Any]") -> str:
    return ", ".join(f"{name}={_short(value)}" for name, value in row.items())


def _short(value: Any) -> str:
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= VALUE_LENGTH_MAX else text[: VALUE_LENGTH_MAX - 1] + "…"


def _fault(author: Author, rows: "pd.DataFrame") -> str:
    """Return the column at which a model fails, with the value and the row."""
    failing = _failing_row(author, rows)
    if failing is None:
        return "all rows at once, but not on each alone"
    alone = (rows.iloc[[row]] for row in golden_batch.spread(len(rows)))
    good = next((row for row in alone if _outputs_or_none(author, row) is not None), None)
    for name in rows.columns:
        for other in _replacements(good, name):
            if _outputs_or_none(author, failing.assign(**{name: other})) is not None:
                return f"its input {name!r} ({_short(failing[name].iloc[0])}, row {failing.index[0]})"
    texts = [repr(name) for name, dtype in rows.dtypes.items() if dtype.kind == "O"]
    return f"its inputs {', '.join(texts or map(repr, rows.columns))}"


def _failing_row(author: Author, rows: "pd.DataFrame") -> "pd.DataFrame | None":
    """Return one row on which a model fails alone, found by halving; None if there is none."""
    while len(rows) > 1:
        halves = rows.iloc[: len(rows) // 2], rows.iloc[len(rows) // 2 :]
        failing = next((half for half in halves if _outputs_or_none(author, half) is None), None)
        if failing is None:
            return None
        rows = failing
    return rows


def _replacements(good: "pd.DataFrame | None", name: str) -> Iterator[Any]:
    """Yield columns of one row that a model may take in place of one on which it fails."""
    if good is not None:
        yield good[name].to_numpy()
        return
    yield np.zeros(1)
    for value in ("", None, np.nan):
        yield np.full(1, value, dtype=object)
