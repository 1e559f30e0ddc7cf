"""The golden batch: inputs with the outputs of the original estimator, which a loaded version must repeat."""

import dataclasses
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from services.model_registry.model_inputs import Columns, InputKind, Inputs
from streams.json_decoder import InvalidRecordError, JsonDecoder

FILE = "golden.json"
ROWS_MAX = 64
"""Maximum rows: enough to contain every kind of row; 64 cost about 1 ms."""
RELATIVE_DIFFERENCE_MAX = 1e-9
"""Maximum relative difference of an output. Another processor may add in another order, which makes far
smaller differences; another model makes larger ones."""
ABSOLUTE_DIFFERENCE_MAX = 1e-12
MANY_ROWS = 2 * ROWS_MAX
"""Rows of a second call, which repeat the batch: a model may compute many rows in another way than few."""


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
    outputs: npt.NDArray[np.float64]


class GoldenFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rows and their outputs, as the file holds them; null is a missing value."""

    columns: dict[str, list[float | str | None]]
    outputs: list[Any]
    """(n,) or (n, n_classes)."""


def spread(count: int) -> npt.NDArray[np.int64]:
    """Return the indices of up to `ROWS_MAX` of ``count`` rows: evenly, from the first to the last."""
    return np.unique(np.linspace(0, count - 1, min(count, ROWS_MAX)).round().astype(np.int64))


def write(folder: Path, model: Predicts, columns: Columns) -> None:
    """Write inputs and a model's outputs into a folder; raise `GoldenError` if outputs are not finite."""
    outputs = np.asarray(model.predict(columns))
    if not len(outputs):
        raise GoldenError("there are no rows for its golden batch: give at least one row of inputs")
    if not np.isfinite(outputs).all():
        raise GoldenError("its outputs for the golden batch are not all finite numbers")
    plain = {name: column.tolist() for name, column in columns.items()}
    golden = GoldenFile(columns=plain, outputs=outputs.tolist())
    (folder / FILE).write_bytes(msgspec.json.encode(golden))  # msgspec writes nan as null


def read(folder: Path, wanted: Inputs) -> GoldenBatch:
    """Return the golden batch in a folder, for these inputs; raise `GoldenError` without one."""
    golden = _read(folder)
    columns = {name: _column(golden.columns[name], kind) for name, kind in wanted.items()}
    return GoldenBatch(columns, np.asarray(golden.outputs, dtype=np.float64))


def verify(batch: GoldenBatch, model: Predicts) -> None:
    """Compute a model's golden batch; raise `GoldenError` if the outputs differ.

    This also warms the model: the first call of an estimator does work that later calls do not, so without it
    the first request would be slower.
    """
    _compare(batch, model)
    repeated = {name: np.resize(column, MANY_ROWS) for name, column in batch.columns.items()}
    _compare(GoldenBatch(repeated, np.resize(batch.outputs, (MANY_ROWS, *batch.outputs.shape[1:]))), model)


def _compare(batch: GoldenBatch, model: Predicts) -> None:
    expected = batch.outputs
    try:
        found = np.asarray(model.predict(batch.columns))
    except Exception as error:  # any error means that this version cannot score
        raise GoldenError(f"it fails on its golden batch: {error!r}") from error
    if found.shape != expected.shape:
        raise GoldenError(
            f"its outputs for the golden batch have the shape {found.shape}, expected {expected.shape}"
        )
    near = np.isclose(found, expected, rtol=RELATIVE_DIFFERENCE_MAX, atol=ABSOLUTE_DIFFERENCE_MAX)
    if expected.ndim > 1:
        near &= (found.argmax(axis=1) == expected.argmax(axis=1))[:, None]
    if not near.all():
        first = tuple(np.argwhere(~near)[0])
        raise GoldenError(
            f"{np.count_nonzero(~near)} of {near.size} outputs for its golden batch differ from those at its "
            f"registration, the first is {found[first]!r} instead of {expected[first]!r}: install the "
            "library versions with which it was registered, or register it again with those installed here"
        )


_GOLDEN_FILES: JsonDecoder[GoldenFile] = JsonDecoder(GoldenFile)


def _read(folder: Path) -> GoldenFile:
    try:
        return _GOLDEN_FILES.decode((folder / FILE).read_bytes())
    except (OSError, InvalidRecordError) as error:
        raise GoldenError(f"its golden batch cannot be read: {error}: register it again") from error


def _column(values: list[float | str | None], kind: InputKind) -> npt.NDArray[Any]:
    if kind is InputKind.NUMBER:
        return np.array(values, dtype=np.float64)  # None becomes nan
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column
