"""A format is chosen by the model's own scores; what cannot be decided is refused."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest

from services.model_registry import format_choice, input_format, model_inputs
from services.model_registry.format_choice import AuthorRows
from services.model_registry.golden_batch import GoldenError
from services.model_registry.input_format import ColumnFormat, ColumnType, Marker
from services.model_registry.model_inputs import InputKind, InputsError

KINDS = {"hour": InputKind.NUMBER, "km": InputKind.NUMBER, "city": InputKind.TEXT}


class Asked:
    """A model that is a function of a frame's rows."""

    def __init__(self, score: Callable[[Mapping[str, Any]], float]) -> None:
        self.score = score

    def predict_frame(self, rows: pd.DataFrame) -> Any:
        columns = {str(name): column.tolist() for name, column in rows.items()}
        return np.array(
            [self.score(dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]
        )


def author_rows(missing: Any = "Bern") -> AuthorRows:
    frame = pd.DataFrame(
        {
            "hour": [3, 4, 5],
            "km": [1, 2, 3],
            "city": np.array(["Oslo", "Rome", missing], dtype=object),
        }
    )
    return AuthorRows(frame, model_inputs.columns_of(frame, KINDS), KINDS, {})


def choose(author: Asked, rows: AuthorRows) -> Any:
    expected = format_choice.author_outputs(author, rows.frame)
    return format_choice.choose(author, rows, input_format.as_served(KINDS), expected)


def test_number_stays_a_float_where_the_model_does_not_mind() -> None:
    """It is what is served, and may be missing."""
    assert choose(Asked(lambda row: row["hour"] / 2), author_rows()) == input_format.as_served(KINDS)


def test_whole_number_stays_one_where_the_model_minds() -> None:
    """A key that is built from it; other numbers stay floats."""
    found = choose(Asked(lambda row: len(str(row["hour"])) + row["km"]), author_rows())
    assert found["hour"] == ColumnFormat(ColumnType.LONG, Marker.REFUSED)
    assert found["km"] == input_format.as_served(KINDS)["km"]


def test_model_that_repeats_its_outputs_in_no_format_is_refused() -> None:
    """The row, its values and the types are named."""
    author = Asked(lambda row: float(row["city"] is None))
    rows = author_rows(missing=None)
    formats = {**input_format.as_served(KINDS), "city": ColumnFormat(ColumnType.STRING, Marker.NAN)}
    with pytest.raises(
        GoldenError, match=r"in 1 of 3 rows; the first is row 2 .*city=None.* 0.0 instead of 1.0"
    ):
        format_choice.choose(author, rows, formats, author.predict_frame(rows.frame))


def test_missing_text_of_which_the_rows_have_none_is_decided_by_the_model() -> None:
    """If it takes only one, that one; if both and the same, either; else the author must say."""

    def decided(score: Callable[[Any], float]) -> Marker:
        author, formats = Asked(lambda row: score(row["city"])), input_format.as_served(KINDS)
        return format_choice.decide_missing(author, author_rows(), formats, {"city"})["city"].marker

    assert decided(lambda _: 1.0) is Marker.NONE
    assert decided(lambda city: 1.0 if isinstance(city, float) else len(city)) is Marker.NAN
    assert decided(lambda city: 0.0 if city is None else len(city)) is Marker.NONE
    with pytest.raises(
        InputsError, match="its input 'city' may be missing, and the model's outputs for None and nan differ"
    ):
        decided(lambda city: float(city is None))


@pytest.mark.parametrize(
    ("score", "fault"),
    [
        (lambda row: len(row["city"]), r"its input 'city' \(None, row 2\): TypeError"),
        (lambda row: 1 / (row["hour"] - 3), r"its input 'hour' \(3, row 0\): ZeroDivisionError"),
        (lambda row: float(row["city"]) + row["km"], r"its inputs? 'city'.*: ValueError: could not convert"),
    ],
    ids=["one row", "a number", "every row"],
)
def test_first_call_that_fails_names_the_column(score: Any, fault: str) -> None:
    """In one line, with the error."""
    rows = author_rows(missing=None).frame
    if "convert" in fault:
        rows = author_rows().frame
    with pytest.raises(GoldenError, match=f"it fails on its rows at {fault}") as raised:
        format_choice.author_outputs(Asked(score), rows)
    assert "\n" not in str(raised.value)


def test_rows_are_read_with_the_marker_of_the_training_data() -> None:
    """A file of rows does not keep it."""
    rows = pd.DataFrame({"city": ["Oslo", np.nan], "km": [1.0, np.nan]})
    found = format_choice.marked(rows, {"city": None, "km": -1.0})
    assert found["city"].tolist() == ["Oslo", None]
    assert found["km"].tolist() == [1.0, -1.0]
