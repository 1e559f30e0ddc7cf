"""A version is loaded only with a valid signature."""

from pathlib import Path

import pytest

from services.model_registry import loading, signing
from tests.unit.model_registry.installation import (
    settings,
)


def test_version_without_tags_is_not_signed(tmp_path: Path):
    """The error says how to sign it."""
    with pytest.raises(signing.SigningError, match=r"not signed.*driftline models register"):
        loading.statement_of(settings(tmp_path), "m", {"driftline.flavour": "sklearn"})
