"""The golden batch: inputs with the outputs of the original estimator, which a loaded version must repeat."""

import dataclasses
import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import msgspec
import numpy as np
import numpy.typing as npt

from services.model_registry.input_format import text_of
from services.model_registry.model_inputs import Columns, InputKind, Inputs, exact_numbers
from streams.defects import panics_as_errors
from streams.json_decoder import JsonDecoder

FILE = "golden.json"
Outputs = npt.NDArray[np.float64]
ROWS_MAX = 64
"""Maximum rows: enough to contain every kind of row; 64 cost about 1 ms."""
RELATIVE_DIFFERENCE_MAX = 1e-9
"""Maximum relative difference of an output. Another processor may add in another order, which makes far
smaller differences; another model makes larger ones."""
ABSOLUTE_DIFFERENCE_MAX = 1e-12
MANY_ROWS = 2 * ROWS_MAX
"""Rows of a second call, which repeat the batch: a model may compute many rows in another way than few."""


ERROR_LENGTH_MAX = 400
"""Maximum length of a library's message in an error: some print their whole input."""


class GoldenError(ValueError):
    """A version's outputs differ from those at its registration, or it has no golden batch."""


class Predicts(Protocol):
    """The part of a model that is verified."""

    def predict(self, columns: Columns) -> npt.NDArray[np.float64]:
        """Return the outputs for n rows."""


@dataclasses.dataclass(frozen=True)
class GoldenBatch:
    """Inputs (n,) by name, and the outputs that a model must return: (n,) or (n, n_classes)."""

    columns: Columns
    outputs: Outputs

    def take(self, rows: npt.NDArray[np.int64]) -> "GoldenBatch":
        """Return these rows of the batch."""
        return GoldenBatch({name: column[rows] for name, column in self.columns.items()}, self.outputs[rows])


class GoldenFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rows and their outputs, as the file holds them; null is a missing value."""

    columns: dict[str, list[int | float | str | None]]
    outputs: list[Any]
    """(n,) or (n, n_classes)."""


def spread(count: int) -> npt.NDArray[np.int64]:
    """Return the indices of up to `ROWS_MAX` of ``count`` rows: evenly, from the first to the last."""
    return np.unique(np.linspace(0, count - 1, min(count, ROWS_MAX)).round().astype(np.int64))


def chosen(missing: Mapping[str, npt.NDArray[np.bool_]], count: int, rows_max: int) -> npt.NDArray[np.int64]:
    """Return the indices of up to ``rows_max`` rows: spread, and with the missing values of each column.

    Args:
        missing: (count,) by column, where it is missing.
        count: Number of rows.
        rows_max: Maximum number of rows, 2 or more.
    """
    if count <= rows_max:
        return np.arange(count)
    share = max(1, rows_max // 2 // max(1, len(missing)))
    rows = [np.flatnonzero(mask)[:share] for mask in missing.values()]
    with_missing = np.unique(np.concatenate([*rows, np.arange(0)]))[: rows_max // 2]
    others = np.setdiff1d(np.arange(count), with_missing)
    evenly = np.linspace(0, len(others) - 1, rows_max - len(with_missing)).round().astype(np.int64)
    return np.union1d(others[evenly], with_missing)


def write(folder: Path, batch: GoldenBatch) -> None:
    """Write a batch into a folder; raise `GoldenError` if it is empty or its outputs are not finite."""
    if not len(batch.outputs):
        raise GoldenError("there are no rows for its golden batch: give at least one row of inputs")
    if not np.isfinite(batch.outputs).all():
        raise GoldenError("its outputs for the golden batch are not all finite numbers")
    plain = {name: list(map(text_of, column.tolist())) for name, column in batch.columns.items()}
    golden = GoldenFile(columns=plain, outputs=batch.outputs.tolist())
    (folder / FILE).write_bytes(msgspec.json.encode(golden))  # msgspec writes nan as null


def read(folder: Path, kinds: Inputs) -> GoldenBatch:
    """Return the golden batch in a folder as columns of these kinds; raise `GoldenError` without one."""
    try:
        golden = msgspec.json.decode((folder / FILE).read_bytes(), type=GoldenFile)
        columns = {name: _column(golden.columns[name], kind) for name, kind in kinds.items()}
        return GoldenBatch(columns, np.asarray(golden.outputs, dtype=np.float64))
    except (OSError, KeyError, TypeError, ValueError, msgspec.MsgspecError) as error:
        raise GoldenError(f"its golden batch cannot be read: {one_line(error)}: register it again") from error


def verify(batch: GoldenBatch, model: Predicts) -> None:
    """Compute a model's golden batch; raise `GoldenError` if the outputs differ.

    It is computed as a whole, for its first row alone, and for more rows than it has: a model may compute few
    rows in another way than many. This also warms the model: the first call of an estimator does work that
    later calls do not, so without it the first request would be slower.
    """
    count = len(batch.outputs)
    for rows in (np.arange(count), np.arange(1), np.resize(np.arange(count), MANY_ROWS)):
        compare(batch.take(rows), model)


def prove(proof: GoldenBatch, batch: GoldenBatch, model: Predicts) -> None:
    """Raise `GoldenError` unless a model repeats its original's outputs, on each row alone and on many rows.

    Args:
        proof: All known rows of the author.
        batch: The golden batch, some of them.
        model: The model as scoring loads it.
    """
    for row in range(len(batch.outputs)):
        compare(batch.take(np.array([row])), model)
    compare(proof, model)


def compare(batch: GoldenBatch, model: Predicts) -> None:
    """Compute a model's outputs; raise `GoldenError` if they differ from the batch's."""
    expected = batch.outputs
    try:
        with panics_as_errors():
            found = np.asarray(model.predict(batch.columns), dtype=np.float64)
    except (Exception, SystemExit) as error:  # any error means that this version cannot score
        raise GoldenError(f"it fails on its golden batch: {one_line(error)}") from error
    if found.shape != expected.shape:
        raise GoldenError(
            f"its outputs for the golden batch have the shape {found.shape}, expected {expected.shape}"
        )
    near = nearly_equal(found, expected)
    if not near.all():
        first = tuple(np.argwhere(~near)[0])
        raise GoldenError(
            f"{np.count_nonzero(~near)} of {near.size} outputs for its golden batch differ from those of the "
            f"original model, the first is {found[first]!r} instead of {expected[first]!r}: install the "
            "library versions with which it was registered, or register it again with those installed here"
        )


_GOLDEN_FILES: JsonDecoder[GoldenFile] = JsonDecoder(GoldenFile)


def nearly_equal(found: Outputs, expected: Outputs) -> npt.NDArray[np.bool_]:
    """Return where outputs of the same shape are equal but for the order of additions."""
    near = np.isclose(found, expected, rtol=RELATIVE_DIFFERENCE_MAX, atol=ABSOLUTE_DIFFERENCE_MAX)
    if expected.ndim > 1:
        near &= (found.argmax(axis=1) == expected.argmax(axis=1))[:, None]
    return near


def _column(values: list[int | float | str | None], kind: InputKind) -> npt.NDArray[Any]:
    if kind is InputKind.NUMBER:
        return exact_numbers(cast("list[int | float | None]", values))
    column = np.empty(len(values), dtype=object)
    column[:] = values if kind is InputKind.TEXT else [_time_of(value) for value in values]
    return column


def _time_of(value: Any) -> dt.datetime | None:
    return None if value is None else msgspec.convert(value, dt.datetime)


def one_line(error: BaseException) -> str:
    """Return an error's type and message in one line of bounded length."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:ERROR_LENGTH_MAX]}"
