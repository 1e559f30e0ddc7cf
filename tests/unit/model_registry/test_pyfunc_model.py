"""A pyfunc model predicts in any form that MLflow allows; its code runs for trusted teams only."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from services.model_registry import flavours
from services.model_registry.contract import ContractError
from services.model_registry.pyfunc_model import PyfuncModel
from tests.unit.model_registry.installation import (
    columns,
    contract,
)


def test_every_form_of_prediction_that_mlflow_allows_is_supported(tmp_path: Path):
    """Columns named after the classes are put into the declared order."""
    several = pd.DataFrame({"high": [0.1], "low": [0.7], "middle": [0.2]})
    forms: list[tuple[str, Any, Any]] = [
        ("multiclass", several, [[0.7, 0.2, 0.1]]),
        ("multiclass", several.to_numpy(), [[0.1, 0.7, 0.2]]),
        ("binary", [0.3], [0.3]),
        ("binary", np.array([[0.7, 0.3]]), [0.3]),
        ("regression", pd.DataFrame({"y": [4]}), [4.0]),
        ("regression", pd.Series([4]), [4.0]),
    ]
    for task, answer, wanted in forms:
        loaded = SimpleNamespace(_predict_fn=lambda _, answer=answer: answer)
        model = PyfuncModel(loaded, contract(tmp_path, task), 0)
        assert model.predict(columns(1)).tolist() == wanted


def test_model_of_an_untrusted_team_is_not_loaded(tmp_path: Path):
    """Its folder is not read."""
    with pytest.raises(ContractError, match="its team 'risk' is not in DRIFTLINE_TRUSTED_TEAMS"):
        flavours.load("pyfunc", tmp_path / "absent", contract(tmp_path))
