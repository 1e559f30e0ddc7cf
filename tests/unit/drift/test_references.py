"""The references of the versions that predicted."""

from services.drift.references import BINNERS_KEPT_MAX, REFERENCES_KEPT_MAX, References
from tests.unit.drift import scenario


def new_references(*versions):
    return References([scenario.reference(version) for version in versions], scenario.declaration())


def test_a_version_that_predicted_is_unknown_until_its_reference_comes():
    references = new_references(1)
    for version in (0, 1, 2):
        references.note(scenario.prediction(1, 0, version=version))
    assert references.unknown == {2}
    references.learn(scenario.reference(2))
    assert references.unknown == frozenset()
    assert references.get(2) == scenario.reference(2)


def test_a_version_that_was_given_up_is_known_to_have_no_reference():
    references = new_references()
    references.note(scenario.prediction(1, 0, version=3))
    references.give_up()
    references.note(scenario.prediction(1, 0, version=3))
    assert references.unknown == frozenset()
    assert references.get(3) is None
    assert references.row_binner(3) is None


def test_version_zero_and_no_version_have_no_reference():
    references = new_references(1)
    assert references.get(0) is references.get(None) is references.row_binner(None) is None


def test_a_version_has_one_binner_until_its_reference_changes():
    references = new_references(1)
    first = references.row_binner(1)
    assert references.row_binner(1) is first
    references.learn(scenario.reference(1))
    assert references.row_binner(1) is not first


def test_only_the_latest_binners_are_kept():
    references = new_references(*range(1, BINNERS_KEPT_MAX + 2))
    first = references.row_binner(1)
    for version in range(2, BINNERS_KEPT_MAX + 2):
        references.row_binner(version)
    assert references.row_binner(1) is not first


def test_a_state_keeps_the_references_of_the_latest_versions():
    references = new_references(*range(20, 0, -1))
    kept = [reference.version for reference in references.state()]
    assert kept == list(range(21 - REFERENCES_KEPT_MAX, 21))
