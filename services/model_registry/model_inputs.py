"""The inputs that are served to a model and those that it needs: names and kinds."""

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
    """The type of an input column."""

    NUMBER = "number"
    """float64; a missing value is nan."""
    TEXT = "text"
    """object; a missing value is None."""


Inputs = Mapping[str, InputKind]
"""Kinds by name, in order."""


class InputsError(ValueError):
    """A model needs an input that is not served."""


_NUMBERS = (FieldType.INT, FieldType.FLOAT, FieldType.BOOL)
_MLFLOW_KINDS = {
    **dict.fromkeys(("integer", "long", "float", "double", "boolean"), InputKind.NUMBER),
    "string": InputKind.TEXT,
}


def served(declaration: ModelDeclaration, service: ServicePlan) -> Inputs:
    """Return the inputs that are served: the declared request fields, then the features of the service."""
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
    """Return the inputs that an installation serves; raise `PlanError` without the feature service."""
    return served(declaration, repository.load(settings).service(declaration.features.service))


def of_frame(rows: "pd.DataFrame") -> Inputs:
    """Return the names and kinds of a frame's columns."""
    return {
        str(name): InputKind.NUMBER if kind.kind in "biuf" else InputKind.TEXT
        for name, kind in rows.dtypes.items()
    }


def signature(folder: Path) -> Inputs:
    """Return the inputs in an MLflow model's signature; raise `InputsError` if it does not name them."""
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
    return dict(_column(column) for column in found.inputs)


def _column(column: Any) -> tuple[str, InputKind]:
    kind = _MLFLOW_KINDS.get(getattr(column.type, "name", str(column.type)))
    if kind is None:
        raise InputsError(
            f"its input {column.name!r} has the type {column.type}, but inputs must be numbers or strings"
        )
    return column.name, kind


def check(wanted: Inputs, given: Inputs) -> None:
    """Raise `InputsError` for a needed input that is not served, or is served with another kind."""
    for name, kind in wanted.items():
        if name not in given:
            raise InputsError(
                f"its input {name!r} is not served; model.yaml declares {', '.join(given)}: add it to "
                "features.from_request or to the feature service"
            )
        if given[name] is not kind:
            raise InputsError(f"its input {name!r} is a {kind}, but is served as a {given[name]}")


def frame(columns: Columns, names: Sequence[str]) -> "pd.DataFrame":
    """Return columns as a DataFrame, in the order of ``names``."""
    import pandas as pd

    return pd.DataFrame({name: columns[name] for name in names}, copy=False)


def columns_of(rows: "pd.DataFrame", wanted: Inputs) -> dict[str, npt.NDArray[Any]]:
    """Return a frame's columns with the types of the inputs; raise `InputsError` for a missing column."""
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
