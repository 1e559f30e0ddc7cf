"""The pandera schemas of a training set, from model.yaml, and what they find."""

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from services.monitoring.reference import CATEGORIES_MAX
from services.runtime.declaration import HOUR_MS, ModelDeclaration, QualityBounds

if TYPE_CHECKING:
    import pandas as pd

    from services.retraining.training_set import TrainingSet

ERROR_MAX = 1e300
"""Bound of the labels of a regression: beyond it squares overflow."""


@dataclasses.dataclass(frozen=True)
class BadRows:
    """Rows that one check refuses."""

    column: str
    """Empty if the check concerns several columns."""
    text: str
    rows: npt.NDArray[np.int64]
    """Their numbers; empty if the check concerns the column as a whole."""
    example: str

    def __str__(self) -> str:
        prefix = f"{self.column} " if self.column else ""
        return f"{prefix}{self.text} in {len(self.rows)} rows (such as {self.example})"


def bad_rows(data: "TrainingSet", declaration: ModelDeclaration, known_ms: int) -> list[BadRows]:
    """Return what is wrong with single rows; all are checked, so that all faults come at once.

    Args:
        data: n rows, numbered from 0.
        declaration: Task, horizon, and the bounds of ``monitoring.quality``.
        known_ms: The event time of the request: later labels were not known.
    """
    found = _failures(_rows_schema(declaration, known_ms), data.rows)
    return found + _failures(_features_schema(data, declaration), data.features)


def _rows_schema(declaration: ModelDeclaration, known_ms: int) -> Any:
    from pandera.pandas import Check, Column, DataFrameSchema

    waits_ms = declaration.label.waits_ms
    known = Check.less_than_or_equal_to(known_ms, error="is later than the request for retraining")
    return DataFrameSchema(
        {
            "prediction_id": Column(str),
            "label": Column(float, _label_check(declaration)),
            "event_time_ms": Column("int64"),
            "label_time_ms": Column("int64", known),
        },
        unique=["prediction_id", "event_time_ms"],
        report_duplicates="exclude_first",
        checks=[
            Check(
                lambda rows: (rows["label_time_ms"] - rows["event_time_ms"]).between(0, waits_ms),
                error=f"label_time_ms is not within {waits_ms / HOUR_MS:g} hours after event_time_ms",
            )
        ],
    )


def _label_check(declaration: ModelDeclaration) -> Any:
    from pandera.pandas import Check

    if declaration.task == "regression":
        return Check.in_range(-ERROR_MAX, ERROR_MAX, error="is no finite number")
    numbers = [float(number) for number in range(len(declaration.class_names))]
    text = "is neither 0 nor 1" if declaration.task == "binary" else "is no number of a class"
    return Check.isin(numbers, error=text)


def _features_schema(data: "TrainingSet", declaration: ModelDeclaration) -> Any:
    from pandera.pandas import Check, Column, DataFrameSchema

    words = Check(
        lambda values: values.map(lambda value: isinstance(value, str)),
        error="is a number where others are text",
    )
    finite = Check(lambda values: ~np.isinf(values), error="is infinite")
    columns = {}
    for name in data.features.columns:
        bounds = declaration.monitoring.quality.get(name)
        if name in data.text:
            columns[name] = Column(object, [words, *_bound_checks(bounds)], nullable=True)
        elif name not in data.times:  # datetimes or None: others were not read
            columns[name] = Column(float, [finite, *_bound_checks(bounds)], nullable=True)
    return DataFrameSchema(columns)


def _bound_checks(bounds: QualityBounds | None) -> Iterable[Any]:
    """Return the checks of declared bounds; a number is compared with allowed values as text."""
    from pandera.pandas import Check

    if bounds is None:
        return
    if bounds.min is not None:
        yield Check.greater_than_or_equal_to(bounds.min, error=f"is below {bounds.min:g}")
    if bounds.max is not None:
        yield Check.less_than_or_equal_to(bounds.max, error=f"is above {bounds.max:g}")
    if bounds.allowed:
        allowed = frozenset(bounds.allowed)
        yield Check(
            lambda values: values.map(lambda value: _text(value) in allowed), error="is no allowed value"
        )


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def crowded(data: "TrainingSet") -> list[str]:
    """Return the text features that have too many values to be categories: they are ids."""
    return [name for name in data.text if data.features[name].nunique() > CATEGORIES_MAX]


def _failures(schema: Any, frame: "pd.DataFrame") -> list[BadRows]:
    """Return one entry for each failed check."""
    from pandera.errors import SchemaErrors

    try:
        schema.validate(frame, lazy=True)
    except SchemaErrors as error:
        cases = error.failure_cases
        # A check of several columns has a case for each column.
        cases["column"] = cases["column"].where(cases["schema_context"] == "Column", "").fillna("")
        groups = cases.groupby(["column", "check"], sort=False)
        return [_bad_rows(str(column), str(check), each) for (column, check), each in groups]
    return []


def _bad_rows(column: str, check: str, cases: "pd.DataFrame") -> BadRows:
    example = cases["failure_case"].iloc[0]
    return BadRows(
        column=column,
        text="occurs more than once" if check == "multiple_fields_uniqueness" else check,
        rows=np.unique(cases["index"].dropna().to_numpy().astype(np.int64)),
        example=repr(example.item() if isinstance(example, np.generic) else example),
    )
