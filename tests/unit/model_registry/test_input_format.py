"""A model gets each input with the type and the missing value that its author saw."""

import datetime as dt
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from services.model_registry import input_format
from services.model_registry.input_format import ColumnFormat, ColumnType, InputFormat, Marker, RowsError
from services.model_registry.model_inputs import InputKind, InputsError
from streams.codec import FieldType

NUMBERS = np.array([1.0, 2.0])
WITH_MISSING = np.array([1.0, np.nan])
TEXTS = np.array(["a", None], dtype=object)
BEYOND = 2**53 + 1


def converted(column: Any, type_: str, marker: str = "refused", value: Any = None, field: Any = None) -> Any:
    """Return one column as a model gets it."""
    format_ = ColumnFormat(ColumnType(type_), Marker(marker), value)
    return InputFormat({"x": format_}, {"x": field}).columns({"x": column})["x"]


@pytest.mark.parametrize(
    ("type_", "dtype"),
    [("double", "f8"), ("float", "f4"), ("long", "i8"), ("integer", "i4"), ("boolean", "?")],
)
def test_number_gets_the_type_of_the_signature(type_: str, dtype: str) -> None:
    """Scoring keeps all of them as float64."""
    column = np.array([1.0, 0.0])
    found = converted(column, type_)
    assert found.dtype == np.dtype(dtype)
    assert found.tolist() == column.tolist()


@pytest.mark.parametrize("column", [np.array([BEYOND]), np.array([BEYOND], dtype=object)])
def test_whole_number_beyond_the_reach_of_float64_stays_exact(column: Any) -> None:
    """2^53 + 1 would be rounded."""
    assert converted(column, "long").tolist() == [BEYOND]
    assert converted(np.array([BEYOND, None], dtype=object), "long", "nan")[0] == BEYOND


def test_whole_number_becomes_a_float_where_the_model_needs_one() -> None:
    """A column of int64 or objects comes only with whole numbers that float64 cannot hold."""
    for column in (np.array([BEYOND, 1]), np.array([BEYOND, 1], dtype=object)):
        found = converted(column, "double", "nan", field=FieldType.INT)
        assert found.dtype == np.float64
        assert found[1] == 1


@pytest.mark.parametrize(
    ("column", "type_"),
    [
        (np.array([1.0, 2.5]), "long"),
        (np.array([1.0, 3e9]), "integer"),
        (np.array([1.0, 2.0]), "boolean"),
        (np.array([1.0, np.inf]), "long"),
        (np.array([1.0, 1e19]), "long"),
    ],
)
def test_number_that_the_type_cannot_hold_is_an_error_of_its_row(column: Any, type_: str) -> None:
    """The other rows are not at fault."""
    with pytest.raises(RowsError, match=f"its input 'x' is .*, which is no {type_}") as raised:
        converted(column, type_)
    assert list(raised.value.reasons) == [1]


@pytest.mark.parametrize(
    ("column", "type_"),
    [(WITH_MISSING, "long"), (WITH_MISSING, "double"), (TEXTS, "string"), (TEXTS, "datetime")],
)
def test_row_without_a_required_value_is_an_error_that_names_the_column(column: Any, type_: str) -> None:
    """It is not answered with some other value."""
    with pytest.raises(
        RowsError, match=f"its input 'x' has no value, but the model needs a {type_}"
    ) as raised:
        converted(column, type_)
    assert list(raised.value.reasons) == [1]


def test_error_of_rows_can_be_sent_between_processes() -> None:
    raised = pickle.loads(pickle.dumps(RowsError({3: "a", 1: "b"})))
    assert str(raised) == "b (row 1, and 1 other rows)"


def test_missing_text_gets_the_marker_of_the_author() -> None:
    """None and nan are two categories to an encoder."""
    assert converted(TEXTS, "string", "none") is TEXTS
    assert np.isnan(converted(TEXTS, "string", "nan")[1])
    assert converted(TEXTS, "string", "value", "?").tolist() == ["a", "?"]


def test_missing_number_gets_the_marker_of_the_author() -> None:
    """Of a type without a missing value, pandas has a variant with one."""
    assert converted(WITH_MISSING, "double", "nan") is WITH_MISSING
    assert converted(WITH_MISSING, "double", "value", -999.0).tolist() == [1.0, -999.0]
    assert converted(WITH_MISSING, "double", "none").tolist() == [1.0, None]
    for column in (WITH_MISSING, NUMBERS):  # a row's neighbours do not change its type
        assert str(converted(column, "long", "nan").dtype) == "Int64"
    assert converted(WITH_MISSING, "long", "nan")[1] is pd.NA


def test_time_becomes_a_time_or_the_text_of_a_record() -> None:
    """Without a time zone, in UTC."""
    at = dt.datetime(2013, 7, 1, 18, 5, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    column = np.array([at, None], dtype=object)
    found = converted(column, "datetime", "nan", field=FieldType.TIMESTAMP)
    assert found.dtype == np.dtype("datetime64[ns]")
    assert found[0] == np.datetime64("2013-07-01T16:05")
    assert np.isnat(found[1])
    text = converted(column, "string", "none", field=FieldType.TIMESTAMP)
    assert text.tolist() == ["2013-07-01T18:05:00+02:00", None]
    far = np.array([dt.datetime(3000, 1, 1, tzinfo=dt.UTC)], dtype=object)
    with pytest.raises(RowsError, match="no datetime"):
        converted(far, "datetime", field=FieldType.TIMESTAMP)


def test_formats_are_kept_in_a_file_of_the_version(tmp_path: Path) -> None:
    """A version without one gets what is served, as when it was registered."""
    kinds = {"x": InputKind.NUMBER, "colour": InputKind.TEXT}
    served = input_format.read(tmp_path, kinds)
    columns = {"x": WITH_MISSING, "colour": TEXTS}
    assert InputFormat(served).columns(columns) is columns
    formats = {
        "x": ColumnFormat(ColumnType.DOUBLE, Marker.VALUE, -1.0),
        "colour": ColumnFormat(ColumnType.STRING, Marker.NAN),
    }
    input_format.write(tmp_path, formats)
    assert input_format.read(tmp_path, kinds) == formats
    (tmp_path / input_format.FILE).write_text("{")
    with pytest.raises(InputsError, match="register it again"):
        input_format.read(tmp_path, kinds)
