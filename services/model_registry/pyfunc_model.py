"""MLflow's pyfunc models. Loading one runs code that it contains: only for trusted teams."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from services.model_registry import folder_digest, model_inputs
from services.model_registry.contract import BINARY, Contract, ContractError, class_order
from services.model_registry.input_format import WHOLE, ColumnFormat, ColumnType, Formats, Marker
from services.model_registry.model_inputs import Columns, InputsError

if TYPE_CHECKING:
    import pandas as pd

FLAVOUR = "pyfunc"


class PyfuncModel:
    """A model of any library that MLflow loads."""

    def __init__(self, loaded: Any, contract: Contract, size_bytes: int) -> None:
        """Take a loaded `mlflow.pyfunc.PyFuncModel`."""
        self.size_bytes = size_bytes
        self._loaded = loaded
        # The function that its predict calls after its checks; MLflow has no public access to it.
        self._predict = loaded._predict_fn  # noqa: SLF001  # see above
        self._input_format = contract.input_format()
        self._declaration = contract.declaration

    def predict(self, columns: Columns) -> npt.NDArray[np.float64]:
        """Return the outputs for n rows; see `services.model_registry.contract.Model`."""
        return self._outputs(self._predict(self._input_format.frame(columns)))

    def predict_frame(self, rows: "pd.DataFrame") -> npt.NDArray[np.float64]:
        """Return the outputs that MLflow itself returns for rows, after its checks of their types."""
        return self._outputs(self._loaded.predict(rows))

    def _outputs(self, predicted: Any) -> npt.NDArray[np.float64]:
        found = np.asarray(predicted, dtype=np.float64)
        task = self._declaration.task
        if task == "multiclass":
            names = getattr(predicted, "columns", None)
            if names is not None and not _are_numbered(list(names)):
                return found[:, class_order(self._declaration, list(names))]
            return found
        if task == "binary" and found.ndim == BINARY and found.shape[1] == BINARY:
            return found[:, 1]
        return found[:, 0] if found.ndim == BINARY and found.shape[1] == 1 else found


def _are_numbered(names: list[Any]) -> bool:
    return names == list(range(len(names)))


def load(folder: Path, contract: Contract) -> PyfuncModel:
    """Load the model in a folder, which runs its code; raise `ContractError` unless its team is trusted.

    MLflow's own checks of the input are skipped: they cost 35 us per column and call. Here the inputs are
    compared with those that are served when the version is loaded, and cast to the types of its signature.
    """
    team = contract.declaration.team
    if team not in contract.settings.trusted_team_names:
        raise ContractError(
            f"it is a pyfunc model, which contains code, and its team {team!r} is not in "
            "DRIFTLINE_TRUSTED_TEAMS: add the team if its code may run here"
        )
    import mlflow.pyfunc  # late: imports MLflow, 3 s

    return PyfuncModel(mlflow.pyfunc.load_model(str(folder)), contract, folder_digest.size_bytes(folder))


def formats_of(folder: Path, rows: "pd.DataFrame") -> Formats:
    """Return how inputs are handed to the model in a folder: with the types of its signature.

    Where the signature requires an input, or its type has no missing value and the author's rows have none
    either, a row without a value is refused. Raises `InputsError` if rows lack what the signature requires.
    """
    return {column.name: _format_of(column, rows[column.name]) for column in model_inputs.schema(folder)}


def _format_of(column: Any, values: "pd.Series[Any]") -> ColumnFormat:
    type_ = ColumnType(column.type.name)
    has_missing = bool(values.isna().any())
    if type_ in WHOLE:
        if has_missing and column.required:
            raise InputsError(
                f"its signature requires {column.name!r}, a {type_}, but {column.name!r} is missing in row "
                f"{int(values.isna().to_numpy().argmax())}: make it optional or a double in the signature, "
                "or give other rows"
            )
        return ColumnFormat(type_, Marker.NAN if has_missing else Marker.REFUSED)
    if column.required and not has_missing:
        return ColumnFormat(type_, Marker.REFUSED)
    if type_ is ColumnType.STRING:
        is_nan = has_missing and values[values.isna()].iloc[0] is not None
        return ColumnFormat(type_, Marker.NAN if is_nan else Marker.NONE)
    return ColumnFormat(type_, Marker.NAN)
