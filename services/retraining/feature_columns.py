"""The features of archived predictions as one column each, by name and in their declared types. Pure."""

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from services.model_registry import model_inputs
from services.model_registry.model_inputs import InputKind, Inputs
from streams.feature_sets import ABSENT, Alignment, FeatureSets

if TYPE_CHECKING:
    import pyarrow as pa

Columns = dict[str, npt.NDArray[Any]]
"""(n,) by feature as it was served: float64 with nan, or object with None for a text or a datetime."""


class RowKind(NamedTuple):
    """Whether rows of one digest and width can be used."""

    is_named: bool
    """Whether they have as many values as their names, which must be known."""
    is_defined: bool
    """Whether no feature has another definition than the present one."""
    tells_definitions: bool
    """Whether they tell how each feature was defined."""


def kind_of_rows(
    digest: str, width: int, given: Inputs, sets: FeatureSets, definitions: Mapping[str, str]
) -> RowKind:
    """Tell whether rows of a digest can be used.

    Args:
        digest: Of their names; rows of older versions have the empty one.
        width: The number of their values.
        given: The declared features in order.
        sets: The published names and definitions.
        definitions: Digests of the present definitions, by feature.
    """
    layout = Alignment(sets, list(given)).layout(digest)
    return RowKind(
        layout is not None and layout.width == width,
        not sets.redefined(digest, definitions),
        not sets.undefined(digest, definitions),
    )


def columns(rows: "pa.Table", given: Inputs, sets: FeatureSets) -> Columns:
    """Return the columns of rows whose names are known, see `kind_of_rows`.

    A feature that a row does not have, or has with a value of another kind than it has now, is missing there.
    """
    found: Columns = {name: _missing(rows.num_rows, kind) for name, kind in given.items()}
    groups = _by_digest(rows)
    for digest, indices in groups.items():
        layout = Alignment(sets, list(given)).layout(digest)
        assert layout is not None, "rows without known names are left out"
        positions = range(layout.width) if layout.positions is None else layout.positions
        part = rows if len(groups) == 1 else rows.take(indices)
        values = _Values(part, layout.width)
        for (name, kind), position in zip(given.items(), positions, strict=True):
            was_number = kind is InputKind.TEXT and sets.holds_numbers(digest, name)
            if position != ABSENT and not was_number:
                found[name][indices] = values.column(position, kind)
    return found


class _Values:
    """The values of rows of the same width."""

    def __init__(self, rows: "pa.Table", width: int) -> None:
        self._width = width
        numbers, self._texts = (
            rows[name].combine_chunks().flatten() for name in ("features_number", "features_text")
        )
        self._numbers = numbers.to_numpy(zero_copy_only=False).reshape(-1, width)

    def column(self, position: int, kind: InputKind) -> npt.NDArray[Any]:
        """Return one column; numbers in a text feature are kept, so that the validation finds them.

        A time is a text in the records; values that are no times are of an earlier type of the feature.
        """
        numbers: npt.NDArray[np.float64] = self._numbers[:, position]
        if kind is InputKind.NUMBER:
            return numbers
        texts = self._texts.take(np.arange(position, len(self._texts), self._width))
        merged: npt.NDArray[np.object_] = texts.to_numpy(zero_copy_only=False).copy()
        if kind is InputKind.TIME:
            merged[:] = list(map(_time, merged))
            return merged
        numbered = ~np.isnan(numbers)
        merged[numbered] = numbers[numbered]
        return merged


def _time(text: str | None) -> dt.datetime | None:
    try:
        return model_inputs.time_of(text)
    except ValueError:
        return None


def _missing(rows: int, kind: InputKind) -> npt.NDArray[Any]:
    return np.full(rows, np.nan) if kind is InputKind.NUMBER else np.full(rows, None, dtype=object)


def _by_digest(rows: "pa.Table") -> Mapping[str, npt.NDArray[np.intp]]:
    """Return the indices of the rows of each digest; rows of older versions have the empty one."""
    encoded = rows["feature_set"].combine_chunks().fill_null("").dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    return {
        digest: np.flatnonzero(codes == code) for code, digest in enumerate(encoded.dictionary.to_pylist())
    }


def holds_numbers(texts: npt.NDArray[np.object_]) -> npt.NDArray[np.bool_]:
    """Return which values (n,) of a text feature are numbers."""
    return np.fromiter((isinstance(each, float) for each in texts), np.bool_, len(texts))
