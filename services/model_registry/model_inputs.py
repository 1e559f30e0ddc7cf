"""The inputs that are served to a model and those that it needs: names and kinds."""

import datetime as dt
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from services.feature_store import declared_features, repository, view_definition
from services.feature_store.plan import ServicePlan
from services.runtime.declaration import ModelDeclaration
from streams import feature_sets
from streams.codec import FieldType
from streams.records import FeatureSet

if TYPE_CHECKING:
    import pandas as pd

    from services.runtime.settings import Settings

Columns = Mapping[str, npt.NDArray[Any]]


class InputKind(StrEnum):
    """The type of an input column."""

    NUMBER = "number"
    """float64, a missing value is nan; see `exact_numbers` for whole numbers that float64 cannot hold."""
    TEXT = "text"
    """object; a missing value is None."""
    TIME = "time"
    """object: datetimes with a time zone; a missing value is None."""


Inputs = Mapping[str, InputKind]
"""Kinds by name, in order."""


class InputsError(ValueError):
    """A model needs an input that is not served."""


_FIELD_KINDS = {
    FieldType.STRING: InputKind.TEXT,
    FieldType.INT: InputKind.NUMBER,
    FieldType.FLOAT: InputKind.NUMBER,
    FieldType.BOOL: InputKind.NUMBER,
    FieldType.TIMESTAMP: InputKind.TIME,
}
_MLFLOW_KINDS = {
    **dict.fromkeys(("integer", "long", "float", "double", "boolean"), InputKind.NUMBER),
    "string": InputKind.TEXT,
    "datetime": InputKind.TIME,
}
_DTYPE_KINDS = {**dict.fromkeys("biuf", InputKind.NUMBER), "M": InputKind.TIME}
EXACT_MAX = float(2**53)
"""Up to here, float64 holds every whole number."""


def served(declaration: ModelDeclaration, service: ServicePlan) -> Inputs:
    """Return the inputs that are served: the declared request fields, then the features of the service."""
    fields = {field.name: field.type for field in declaration.request.fields}
    given = {name: _FIELD_KINDS[fields[name]] for name in declaration.features.from_request}
    types = {(view.name, feature.name): feature.type for view in service.views for feature in view.features}
    for reference in service.references:
        kind = types[reference.view, reference.feature]
        given[reference.feature] = InputKind.NUMBER if kind.is_number else InputKind.TEXT
    return given


def textual(inputs: Inputs) -> list[str]:
    """Return the inputs that a prediction holds as texts: those of texts and of times."""
    return [name for name, kind in inputs.items() if kind is not InputKind.NUMBER]


def feature_set(declaration: ModelDeclaration, service: ServicePlan) -> FeatureSet:
    """Return the record that publishes what is served to a model, to which its predictions refer."""
    inputs = served(declaration, service)
    definitions = view_definition.of_service(service)
    return feature_sets.feature_set(declaration.name, list(inputs), textual(inputs), definitions)


def definitions_of_model(settings: "Settings", declaration: ModelDeclaration) -> dict[str, str]:
    """Return digests of how a model's features are defined, by feature; raise `PlanError` as `of_model`."""
    return view_definition.of_service(declared_features.service_of(repository.load(settings), declaration))


def of_model(settings: "Settings", declaration: ModelDeclaration) -> Inputs:
    """Return the inputs that an installation serves; raise `PlanError` without the feature service."""
    return served(declaration, repository.load(settings).service(declaration.features.service))


def of_frame(rows: "pd.DataFrame") -> Inputs:
    """Return the names and kinds of a frame's columns."""
    return {str(name): _DTYPE_KINDS.get(dtype.kind, InputKind.TEXT) for name, dtype in rows.dtypes.items()}


def may_be_missing(declaration: ModelDeclaration, name: str) -> bool:
    """Tell whether a model gets rows in which this input has no value, as model.yaml declares it."""
    features, missing = declaration.features, declaration.features.missing
    if name in missing.fill or name in missing.reject or missing.otherwise == "reject":
        return False
    nullable = {field.name: field.nullable for field in declaration.request.fields}
    return nullable[name] if name in features.from_request else True


def signature(folder: Path) -> Inputs:
    """Return the inputs in an MLflow model's signature; raise `InputsError` if it does not name them."""
    return dict(_column(column) for column in schema(folder))


def schema(folder: Path) -> list[Any]:
    """Return the `mlflow.types.ColSpec` of each input; raise `InputsError` if they are not named."""
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model

    try:
        model: Any = Model.load(str(folder))
        found = model.get_input_schema()
    except (MlflowException, OSError, ValueError, KeyError, TypeError) as error:
        raise InputsError(f"its MLmodel cannot be read: {error}") from error
    if found is None or not found.has_input_names():
        raise InputsError(
            "it has no signature that names its inputs: save it with a signature that "
            "mlflow.models.infer_signature makes from a DataFrame"
        )
    return list(found.inputs)


def _column(column: Any) -> tuple[str, InputKind]:
    kind = _MLFLOW_KINDS.get(getattr(column.type, "name", str(column.type)))
    if kind is None:
        raise InputsError(
            f"its input {column.name!r} has the type {column.type}, but inputs must be numbers, booleans, "
            "strings or datetimes"
        )
    return column.name, kind


def check(wanted: Inputs, given: Inputs) -> None:
    """Raise `InputsError` for a needed input that is not served, or is served with another kind.

    A time is also served to a model that needs a text.
    """
    for name, kind in wanted.items():
        if name not in given:
            raise InputsError(
                f"its input {name!r} is not served; model.yaml declares {', '.join(given)}: add it to "
                "features.from_request or to the feature service"
            )
        if given[name] is not kind and (kind, given[name]) != (InputKind.TEXT, InputKind.TIME):
            raise InputsError(f"its input {name!r} is a {kind}, but is served as a {given[name]}")


def frame(columns: Mapping[str, Any], names: Sequence[str]) -> "pd.DataFrame":
    """Return columns as a DataFrame, in the order of ``names``."""
    import pandas as pd

    return pd.DataFrame({name: columns[name] for name in names}, copy=False)


def exact_numbers(values: Sequence[float | None]) -> npt.NDArray[Any]:
    """Return numbers (n,) as float64 with nan; unless it would round one of only whole numbers.

    Those are int64, or objects with None if one is missing.
    """
    column = np.array(values, dtype=np.float64)  # None -> nan
    if not (np.abs(column) >= EXACT_MAX).any() or not all(
        value is None or isinstance(value, int) for value in values
    ):
        return column
    exact: npt.NDArray[Any] = np.array(values, dtype=object if None in values else np.int64)
    return exact


def check_columns(rows: "pd.DataFrame", names: Sequence[str]) -> None:
    """Raise `InputsError` for inputs of which rows have no column."""
    if absent := [name for name in names if name not in rows.columns]:
        raise InputsError(f"the rows have no column {', '.join(absent)}, which is an input of the model")


def columns_of(rows: "pd.DataFrame", kinds: Inputs) -> dict[str, npt.NDArray[Any]]:
    """Return an author's rows as the columns that would be served for them.

    Raises `InputsError` for a column that is missing, or holds a value of another kind than is served.
    """
    check_columns(rows, list(kinds))
    columns: dict[str, npt.NDArray[Any]] = {}
    for name, kind in kinds.items():
        try:
            columns[name] = _SERVED_COLUMN[kind](rows[name])
        except (TypeError, ValueError, OverflowError) as error:
            raise InputsError(
                f"the column {name!r} of the rows does not hold what is served, which is a {kind}: {error}"
            ) from error
    return columns


def _number_column(column: "pd.Series[Any]") -> npt.NDArray[Any]:
    if column.dtype.kind in "iu":
        return exact_numbers(column.astype(object).where(column.notna(), None).tolist())
    if column.dtype.kind == "O":
        _check_values(column, (int, float, np.number, np.bool_), "a number")
    return column.astype("float64").to_numpy()


def _text_column(column: "pd.Series[Any]") -> npt.NDArray[Any]:
    text = column.astype(object)
    _check_values(text, (str,), "a text")
    return text.where(text.notna(), None).to_numpy(dtype=object)


def _time_column(column: "pd.Series[Any]") -> npt.NDArray[Any]:
    found: npt.NDArray[Any] = np.empty(len(column), dtype=object)
    found[:] = [time_of(value) for value in column.astype(object).where(column.notna(), None).tolist()]
    return found


def time_of(value: Any) -> dt.datetime | None:
    """Return a time, or its text, with its offset; without one it is in UTC.

    Raises `msgspec.ValidationError`, a `ValueError`, for another text.
    """
    if value is None:
        return None
    plain = value.to_pydatetime() if hasattr(value, "to_pydatetime") else value
    time = msgspec.convert(plain, dt.datetime)
    return time if time.tzinfo else time.replace(tzinfo=dt.UTC)


def _check_values(column: "pd.Series[Any]", types: tuple[type, ...], what: str) -> None:
    wrong = [value for value in column[column.notna()].tolist() if not isinstance(value, types)]
    if wrong:
        raise TypeError(f"{wrong[0]!r} is not {what}")


_SERVED_COLUMN = {
    InputKind.NUMBER: _number_column,
    InputKind.TEXT: _text_column,
    InputKind.TIME: _time_column,
}
