"""The change that makes a version the champion holds its reference."""

import msgspec

from services.operations.models import champion_reference
from services.runtime.settings import Settings
from streams import records
from tests.unit.drift import scenario

CHANGE = scenario.model_changed(version=1)


def test_another_reference_replaces_that_of_the_champion_before() -> None:
    named = records.ReferenceName(version=1, sha256="0")
    before = msgspec.structs.replace(CHANGE, reference=None, reference_name=named)
    after = champion_reference.with_reference(Settings(), before, scenario.reference(2))
    assert after.reference is not None
    assert (after.reference.version, after.reference_name) == (2, None)
    assert champion_reference.is_known(after, 2)


def test_without_a_reference_the_change_stays_and_the_version_is_unknown() -> None:
    assert champion_reference.with_reference(Settings(), CHANGE, None) is CHANGE
    assert not champion_reference.is_known(CHANGE, 2)
    span = records.LearnedSpan(from_ms=0, until_ms=1)
    learned = msgspec.structs.replace(CHANGE, reference=None, learned=span)
    assert champion_reference.is_known(learned, 2)
