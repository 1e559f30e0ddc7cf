"""The golden batch: real inputs with what the very estimator answered. A loaded version must repeat it."""

import dataclasses
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from services.model_registry.model_inputs import Columns, InputKind, Inputs

FILE = "golden.json"
ROWS_MAX = 64
"""Enough to meet every kind of row, few enough to cost a millisecond."""
RELATIVE_DIFFERENCE_MAX = 1e-9
"""Another order of additions, as another processor may choose, stays far below; another model does not."""
ABSOLUTE_DIFFERENCE_MAX = 1e-12
MANY_ROWS = 2 * ROWS_MAX
"""Asked of a loaded version once more, the same over again: many rows may be answered by another way."""


class GoldenError(ValueError):
    """A version does not answer as it did when it was registered, or has nothing to prove itself by."""


class Predicts(Protocol):
    """The part of a model that is put to the proof."""

    def predict(self, columns: Columns) -> npt.NDArray[np.float64]:
        """Return the outputs of n rows."""


@dataclasses.dataclass(frozen=True)
class Proof:
    """Inputs (n,) by name, and what a model must answer: (n,) or (n, n_classes)."""

    columns: Columns
    outputs: npt.NDArray[np.float64]


class Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rows and their outputs; null stands for what is missing."""

    columns: dict[str, list[float | str | None]]
    outputs: list[Any]
    """(n,) or (n, n_classes)."""


def spread(count: int) -> npt.NDArray[np.int64]:
    """Return which of so many rows to take: evenly, from the first to the last."""
    return np.unique(np.linspace(0, count - 1, min(count, ROWS_MAX)).round().astype(np.int64))


def write(folder: Path, model: Predicts, columns: Columns) -> None:
    """Keep inputs and a model's outputs in a folder; raise `GoldenError` for outputs that are not finite."""
    outputs = np.asarray(model.predict(columns))
    if not len(outputs):
        raise GoldenError("there are no rows to prove it by")
    if not np.isfinite(outputs).all():
        raise GoldenError("it answers with something that is no finite number")
    plain = {name: column.tolist() for name, column in columns.items()}
    golden = Golden(columns=plain, outputs=outputs.tolist())
    (folder / FILE).write_bytes(msgspec.json.encode(golden))  # which writes nan as null


def read(folder: Path, wanted: Inputs) -> Proof:
    """Return what a model with these inputs is to prove itself by; raise `GoldenError` without it."""
    golden = _read(folder)
    columns = {name: _column(golden.columns[name], kind) for name, kind in wanted.items()}
    return Proof(columns, np.asarray(golden.outputs, dtype=np.float64))


def prove(proof: Proof, model: Predicts) -> None:
    """Warm a model with its golden batch; raise `GoldenError` if it answers otherwise.

    The first call of an estimator does work that no other does; afterwards the first request is as fast.
    """
    _compare(proof, model)
    again = {name: np.resize(column, MANY_ROWS) for name, column in proof.columns.items()}
    _compare(Proof(again, np.resize(proof.outputs, (MANY_ROWS, *proof.outputs.shape[1:]))), model)


def _compare(proof: Proof, model: Predicts) -> None:
    expected = proof.outputs
    try:
        found = np.asarray(model.predict(proof.columns))
    except Exception as error:  # whatever a model raises, it is this version that does not answer
        raise GoldenError(f"it does not answer its golden batch: {error!r}") from error
    if found.shape != expected.shape:
        raise GoldenError(f"it answers its golden batch with the shape {found.shape}, not {expected.shape}")
    near = np.isclose(found, expected, rtol=RELATIVE_DIFFERENCE_MAX, atol=ABSOLUTE_DIFFERENCE_MAX)
    if expected.ndim > 1:
        near &= (found.argmax(axis=1) == expected.argmax(axis=1))[:, None]
    if not near.all():
        first = tuple(np.argwhere(~near)[0])
        raise GoldenError(
            f"it answers {np.count_nonzero(~near)} of {near.size} values of its golden batch otherwise than "
            f"when it was registered, first {found[first]!r} instead of {expected[first]!r}; are its "
            "libraries of the same versions? Register it again with those that run here"
        )


def _read(folder: Path) -> Golden:
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=Golden)
    except (OSError, msgspec.DecodeError) as error:
        raise GoldenError(f"it has no golden batch that can be read: {error}; register it again") from error


def _column(values: list[float | str | None], kind: InputKind) -> npt.NDArray[Any]:
    if kind is InputKind.NUMBER:
        return np.array(values, dtype=np.float64)  # None becomes nan
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column
