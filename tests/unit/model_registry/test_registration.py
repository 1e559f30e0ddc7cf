"""What is sealed can be loaded; what scoring would refuse is not sealed."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from services.model_registry import golden_batch, loading, registration
from services.model_registry.contract import ContractError
from services.model_registry.model_inputs import InputKind, InputsError
from tests.unit.model_registry.installation import (
    GIVEN,
    classifier,
    columns,
    declaration,
    rows,
    settings,
)


def test_sealed_estimator_is_loaded_and_verified(tmp_path: Path):
    """Its size is that of its arrays; its tags are those that loading verifies."""
    own, declared, folder = settings(tmp_path), declaration(), tmp_path / "model"
    tags = registration.seal_estimator(own, declared, GIVEN, classifier(), rows(), folder)
    statement = loading.statement_of(own, "m", tags)
    model = loading.open_folder(own, declared, GIVEN, statement.flavour, folder).model
    assert np.array_equal(model.predict(columns()), classifier().predict_proba(rows().head(3))[:, 1])
    assert 5_000 < model.size_bytes < 200_000
    assert len(msgspec.json.decode((folder / golden_batch.FILE).read_bytes())["outputs"]) == 64


def test_estimator_that_could_not_be_served_is_not_sealed(tmp_path: Path):
    """An estimator that scoring would refuse is not registered."""
    with pytest.raises(InputsError, match="its input 'noise' is not served"):
        registration.seal_estimator(
            settings(tmp_path),
            declaration(),
            {"x": InputKind.NUMBER},
            classifier(),
            rows(),
            tmp_path / "model",
        )


def test_untrusted_type_is_refused(tmp_path: Path):
    """The list is the operator's own."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    estimator = make_pipeline(FunctionTransformer(np.nan_to_num), classifier()).fit(rows(), rows()["x"] > 0)
    with pytest.raises(ContractError, match=r"nan_to_num.*DRIFTLINE_TRUSTED_TYPES"):
        registration.seal_estimator(
            settings(tmp_path), declaration(), GIVEN, estimator, rows(), tmp_path / "first"
        )
    trusting = settings(tmp_path, trusted_types="numpy.nan_to_num")
    registration.seal_estimator(trusting, declaration(), GIVEN, estimator, rows(), tmp_path / "second")
