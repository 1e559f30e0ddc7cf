"""MLflow's pyfunc models. Loading one runs code that it contains: only for trusted teams."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from services.model_registry import folder_digest, model_inputs
from services.model_registry.contract import BINARY, Contract, ContractError, class_order
from services.model_registry.model_inputs import Columns

FLAVOUR = "pyfunc"


class PyfuncModel:
    """A model of any library that MLflow loads."""

    def __init__(self, predict: Any, contract: Contract, size_bytes: int) -> None:
        """Take the function from a DataFrame to predictions."""
        self.size_bytes = size_bytes
        self._predict = predict
        self._names = list(contract.wanted)
        self._declaration = contract.declaration

    def predict(self, columns: Columns) -> npt.NDArray[np.float64]:
        """Return the outputs for n rows; see `services.model_registry.contract.Model`."""
        predicted = self._predict(model_inputs.frame(columns, self._names))
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

    MLflow's own checks of the input are skipped: they cost 35 us per column and call, and the inputs are
    compared with those that are served when the version is loaded.
    """
    team = contract.declaration.team
    if team not in contract.settings.trusted_team_names:
        raise ContractError(
            f"it is a pyfunc model, which contains code, and its team {team!r} is not in "
            "DRIFTLINE_TRUSTED_TEAMS: add the team if its code may run here"
        )
    import mlflow.pyfunc  # late: imports MLflow, 3 s

    # The function that PyfuncModel.predict calls after its checks; MLflow has no public access to it.
    function = mlflow.pyfunc.load_model(str(folder))._predict_fn  # noqa: SLF001
    return PyfuncModel(function, contract, folder_digest.size_bytes(folder))
