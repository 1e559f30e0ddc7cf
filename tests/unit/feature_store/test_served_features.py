"""Ages and statuses of served rows."""

import numpy as np
import pytest

from services.feature_store.served_features import ServedFeatures, ServedView, Status
from services.runtime import watermarks

TIMES_MS = np.array([100, 100, 100, 100])
NEWEST_MS = np.array([90, 100, 120, watermarks.NEVER])
VALUES = np.array([1.0, np.nan, 3.0, np.nan])


def view(ttl_ms: int) -> ServedView:
    return ServedView(TIMES_MS, NEWEST_MS, ttl_ms)


def test_an_age_is_never_negative_and_minus_one_for_nothing() -> None:
    """A batch row may be newer than the row's event time."""
    assert view(0).ages_ms.tolist() == [10, 0, 0, -1]
    assert view(0).found.tolist() == [True, True, True, False]


@pytest.mark.parametrize(
    ("ttl_ms", "hidden", "statuses"),
    [
        (0, [False, False, False, True], [1, 2, 1, 3]),
        (10, [False, False, False, True], [1, 2, 1, 3]),
        (9, [True, False, False, True], [4, 2, 1, 3]),
    ],
)
def test_what_is_older_than_the_ttl_is_hidden(ttl_ms: int, hidden: list[bool], statuses: list[int]) -> None:
    assert view(ttl_ms).hidden.tolist() == hidden
    assert view(ttl_ms).statuses(VALUES).tolist() == statuses


def test_texts_are_null_where_they_are_none() -> None:
    texts = np.array(["a", None, "", None], dtype=object)
    assert view(0).statuses(texts).tolist() == [
        Status.PRESENT,
        Status.NULL_VALUE,
        Status.PRESENT,
        Status.NOT_FOUND,
    ]


def test_statuses_are_asked_by_column_and_view() -> None:
    served = ServedFeatures({"x": VALUES}, np.zeros(4, dtype=np.int64), 0, views={"v": view(0)})
    assert served.statuses("x", "v").tolist() == [1, 2, 1, 3]
    with pytest.raises(KeyError, match="other"):
        served.statuses("x", "other")
