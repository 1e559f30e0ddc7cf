"""Validation of a training set, with pandera."""

from typing import TYPE_CHECKING, Any

import numpy as np

from services.monitoring.reference import CATEGORIES_MAX
from services.retraining.dataset import TrainingSet
from services.retraining.errors import InvalidDataError
from services.runtime.declaration import ModelDeclaration

if TYPE_CHECKING:
    import pandas as pd

LABEL_SHARE_MIN = 0.005
"""Minimum share of the rarer class: below it the label is probably wrong and no metric is reliable."""


def validate(data: TrainingSet, declaration: ModelDeclaration, known_ms: int) -> None:
    """Raise `InvalidDataError` with all faults, each with its number of rows."""
    faults = [*_counts(data, declaration), *_failures(_rows_schema(declaration, known_ms), data.rows)]
    faults += _failures(_features_schema(data), data.features)
    if faults:
        raise InvalidDataError("the training set cannot be used: " + "; ".join(faults))


def _counts(data: TrainingSet, declaration: ModelDeclaration) -> list[str]:
    """Return the faults of the set as a whole."""
    faults = []
    rows, wanted = len(data.rows), declaration.retraining.minimum_labels
    if rows < wanted:
        faults.append(f"{rows} rows, but retraining.minimum_labels is {wanted}")
    share = float((data.rows["label"] == 1).mean())
    if not LABEL_SHARE_MIN <= share <= 1 - LABEL_SHARE_MIN:
        expected = f"{LABEL_SHARE_MIN:.1%} to {1 - LABEL_SHARE_MIN:.1%}"
        faults.append(f"label: {share:.2%} of the rows are positive; expected {expected}")
    return faults


def _rows_schema(declaration: ModelDeclaration, known_ms: int) -> Any:
    from pandera.pandas import Check, Column, DataFrameSchema

    hours, horizon_ms = declaration.label.horizon_hours, declaration.label.horizon_ms
    return DataFrameSchema(
        {
            "prediction_id": Column(str),
            "label": Column(float, Check.isin([0.0, 1.0], error="is neither 0 nor 1")),
            "event_time_ms": Column("int64"),
            "label_time_ms": Column(
                "int64",
                Check.less_than_or_equal_to(known_ms, error="is later than the request for retraining"),
            ),
        },
        unique=["prediction_id", "event_time_ms"],
        checks=[
            Check(
                lambda rows: (rows["label_time_ms"] - rows["event_time_ms"]).between(0, horizon_ms),
                error=f"label_time_ms is not within {hours:g} hours after event_time_ms",
            )
        ],
    )


def _features_schema(data: TrainingSet) -> Any:
    from pandera.pandas import Check, Column, DataFrameSchema

    finite = Check(lambda values: ~np.isinf(values), error="is infinite")
    words = Check(
        lambda values: values.map(lambda value: isinstance(value, str)),
        error="is a number where others are text",
    )
    few = Check(
        lambda values: values.nunique() <= CATEGORIES_MAX, error=f"has more than {CATEGORIES_MAX} categories"
    )
    return DataFrameSchema(
        {
            name: Column(object, [words, few], nullable=True)
            if name in data.text
            else Column(float, finite, nullable=True)
            for name in data.features.columns
            if name not in data.times  # datetimes or None: others were not read
        }
    )


def _failures(schema: Any, frame: "pd.DataFrame") -> list[str]:
    """Return a line for each failed check, with its number of rows and an example."""
    from pandera.errors import SchemaErrors

    try:
        schema.validate(frame, lazy=True)
    except SchemaErrors as error:
        cases = error.failure_cases
        return [
            _describe(str(column), str(check), group)
            for (column, check), group in cases.groupby(["column", "check"], dropna=False)
        ]
    return []


def _describe(column: str, check: str, cases: "pd.DataFrame") -> str:
    what = "occurs more than once" if check == "multiple_fields_uniqueness" else check
    example = cases["failure_case"].iloc[0]
    example = example.item() if isinstance(example, np.generic) else example
    prefix = "" if column in ("nan", "None") or column.startswith("Data") else f"{column} "
    return f"{prefix}{what} in {cases['index'].nunique()} rows (such as {example!r})"
