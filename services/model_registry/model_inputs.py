"""What a model is given, and what it asks for: names and kinds. Compiled once, when a version is loaded."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from services.feature_store import repository
from services.feature_store.plan import ServicePlan
from services.runtime.declaration import ModelDeclaration
from streams.codec import FieldType

if TYPE_CHECKING:
    import pandas as pd

    from services.runtime.settings import Settings

Columns = Mapping[str, npt.NDArray[Any]]


class InputKind(StrEnum):
    """How a column comes to a model."""

    NUMBER = "number"
    """float64, nan where it is missing."""
    TEXT = "text"
    """object, None where it is missing."""


Inputs = Mapping[str, InputKind]
"""By name, in order."""


class InputsError(ValueError):
    """A model asks for what it is not given."""


_NUMBERS = (FieldType.INT, FieldType.FLOAT, FieldType.BOOL)
_MLFLOW_KINDS = {
    **dict.fromkeys(("integer", "long", "float", "double", "boolean"), InputKind.NUMBER),
    "string": InputKind.TEXT,
}


def served(declaration: ModelDeclaration, service: ServicePlan) -> Inputs:
    """Return what a model is given: the declared fields of the request, then its service's features."""
    fields = {field.name: field.type for field in declaration.request.fields}
    given = {
        name: InputKind.NUMBER if fields[name] in _NUMBERS else InputKind.TEXT
        for name in declaration.features.from_request
    }
    types = {(view.name, feature.name): feature.type for view in service.views for feature in view.features}
    for reference in service.references:
        kind = types[reference.view, reference.feature]
        given[reference.feature] = InputKind.NUMBER if kind.is_number else InputKind.TEXT
    return given


def of_model(settings: "Settings", declaration: ModelDeclaration) -> Inputs:
    """Return what a model is given in an installation; raises `PlanError` without its feature service."""
    return served(declaration, repository.load(settings).service(declaration.features.service))


def of_frame(rows: "pd.DataFrame") -> Inputs:
    """Return names and kinds of a frame's columns."""
    return {
        str(name): InputKind.NUMBER if kind.kind in "biuf" else InputKind.TEXT
        for name, kind in rows.dtypes.items()
    }


def signature(folder: Path) -> Inputs:
    """Return what the MLflow model in a folder asks for, in order; raise `InputsError` without names."""
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model

    try:
        model: Any = Model.load(str(folder))
        found = model.get_input_schema()
    except (MlflowException, OSError, ValueError, KeyError, TypeError) as error:
        raise InputsError(f"its MLmodel cannot be read: {error}") from error
    if found is None or not found.has_input_names():
        raise InputsError(
            "it has no signature that names its inputs; save it with one, as made by "
            "mlflow.models.infer_signature from a DataFrame"
        )
    return dict(_column(column) for column in found.inputs)


def _column(column: Any) -> tuple[str, InputKind]:
    kind = _MLFLOW_KINDS.get(getattr(column.type, "name", str(column.type)))
    if kind is None:
        raise InputsError(
            f"its input {column.name!r} is of type {column.type}; inputs are numbers or strings"
        )
    return column.name, kind


def check(wanted: Inputs, given: Inputs) -> None:
    """Raise `InputsError` for an input that is not given, or is of another kind."""
    for name, kind in wanted.items():
        if name not in given:
            raise InputsError(
                f"its input {name!r} is not served; model.yaml gives {', '.join(given)}: add it to "
                "features.from_request or to the feature service"
            )
        if given[name] is not kind:
            raise InputsError(f"its input {name!r} is a {kind}, but a {given[name]} is served")


def frame(columns: Columns, names: Sequence[str]) -> "pd.DataFrame":
    """Return columns as a DataFrame in the given order."""
    import pandas as pd

    return pd.DataFrame({name: columns[name] for name in names}, copy=False)


def columns_of(rows: "pd.DataFrame", wanted: Inputs) -> dict[str, npt.NDArray[Any]]:
    """Return a frame's columns as a model is given them."""
    columns: dict[str, npt.NDArray[Any]] = {}
    for name, kind in wanted.items():
        if name not in rows.columns:
            raise InputsError(f"the rows have no column {name!r}")
        if kind is InputKind.NUMBER:
            columns[name] = rows[name].astype("float64").to_numpy()
        else:
            text = rows[name].astype(object)
            columns[name] = text.where(text.notna(), None).to_numpy(dtype=object)
    return columns
