"""How much text the features of a row may have, so that its prediction always fits into one record. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from streams import topics

BYTES_PER_CHARACTER = 6
"""Maximum bytes of a character in JSON: a control character is written as ``\\u0000``."""
BYTES_PER_NUMBER = 26
"""Maximum bytes of a number in JSON: a double with sign, exponent and comma."""
PROBABILITIES_OF_CLASS = 5
"""Probabilities of one class for which a record has room: those of the answer and of four shadows."""
OTHER_BYTES = 16 << 10
"""Room for all of a record but its features: the id, as key and in the value, names, shadow scores."""

Columns = Mapping[str, npt.NDArray[Any]]


def characters_max(number_count: int, record_bytes_max: int) -> int:
    """Return the maximum characters of a row's text features together.

    Args:
        number_count: Numbers and scores that the row has, too.
        record_bytes_max: The setting of this name; the limit of the predictions topic follows from it.
    """
    left = (
        topics.PREDICTIONS.message_bytes_max(record_bytes_max) - OTHER_BYTES - BYTES_PER_NUMBER * number_count
    )
    return max(0, left // BYTES_PER_CHARACTER)


def oversized(columns: Columns, names: Sequence[str], characters_max: int) -> dict[int, str]:
    """Return the rows whose text is too long for the predictions topic, by index, each with the reason.

    Args:
        columns: Each (n,); only those of dtype object have text, or None.
        names: The columns that may have text.
        characters_max: Maximum characters of all texts of one row together.
    """
    texts = [columns[name].tolist() for name in names if columns[name].dtype == object]
    if sum(sum(map(len, filter(None, text))) for text in texts) <= characters_max:
        return {}  # as mostly: all rows together fit
    lengths = np.array([[len(value or "") for value in text] for text in texts], dtype=np.int64)
    totals = lengths.sum(axis=0)
    return {
        row: f"its text features have {totals[row]} characters, the limit is {characters_max}, because the "
        f"prediction must fit into a record; the longest is {_longest(names, columns, lengths[:, row])}"
        for row in np.flatnonzero(totals > characters_max).tolist()
    }


def _longest(names: Sequence[str], columns: Columns, lengths: npt.NDArray[np.int64]) -> str:
    texts = [name for name in names if columns[name].dtype == object]
    return texts[int(lengths.argmax())]
