"""A reference is a file of its version, and gets the version's number when it is read."""

from pathlib import Path

from services.model_registry import sealed_reference
from streams.records import FeatureReference, Reference

REFERENCE = Reference(
    version=0,
    features=[FeatureReference(feature="x", counts=[1], missing=0)],
    score=None,
    log_loss=None,
)


def test_reference_is_read_with_the_version_of_the_registry(tmp_path: Path) -> None:
    sealed_reference.write(tmp_path, REFERENCE)
    found = sealed_reference.read(tmp_path, 7)
    assert found is not None
    assert (found.version, found.features) == (7, REFERENCE.features)


def test_version_without_a_reference_has_none(tmp_path: Path) -> None:
    assert sealed_reference.read(tmp_path, 7) is None
    sealed_reference.write(tmp_path, REFERENCE)
    sealed_reference.remove(tmp_path)
    assert sealed_reference.read(tmp_path, 7) is None
