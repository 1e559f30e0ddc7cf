"""Errors of loaders are errors of the version."""

from pathlib import Path

import pytest

from services.model_registry import flavours
from services.model_registry.contract import ContractError
from tests.unit.model_registry.installation import (
    contract,
)


def test_unknown_flavour_is_refused(tmp_path: Path):
    """The known ones are named."""
    with pytest.raises(ContractError, match="'onnx' is not supported; supported are sklearn, pyfunc"):
        flavours.load("onnx", tmp_path, contract(tmp_path))


def test_error_of_a_library_is_an_error_of_the_version(tmp_path: Path):
    (tmp_path / "model.skops").write_bytes(b"no archive")
    with pytest.raises(ContractError, match="it does not load: BadZipFile"):
        flavours.load("sklearn", tmp_path, contract(tmp_path))
