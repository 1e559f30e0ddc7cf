"""The references of the versions that predicted."""

from services.drift.binning.binning import PredictionRows
from services.drift.references import BINNERS_KEPT_MAX, REFERENCES_KEPT_MAX, References
from services.runtime.declaration import ModelDeclaration
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


def test_a_missing_reference_is_worth_a_warning_only_once_its_version_is_the_champion():
    references = new_references(1)
    references.note(scenario.prediction(1, 0, version=2, arm="challenger"))
    assert references.unknown == {2}
    assert references.give_up() == set(), "its reference comes with its promotion"
    references.note(scenario.prediction(2, 0, version=2, arm="challenger"))
    assert references.are_complete
    references.note(scenario.prediction(3, 0, version=2))
    assert references.unknown == {2}, "the topic of models is read again, for the promotion"
    assert references.give_up() == {2}
    references.note(scenario.prediction(4, 0, version=2))
    assert references.are_complete


def test_the_reference_that_comes_with_a_promotion_is_used():
    references = new_references(1)
    references.note(scenario.prediction(1, 0, version=2, arm="challenger"))
    references.give_up()
    references.learn(scenario.reference(2))
    references.note(scenario.prediction(2, 0, version=2))
    assert references.are_complete
    assert references.get(2) == scenario.reference(2)


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


def learning_references(*versions):
    declared = scenario.document() | {"gates": None, "learning": {}}
    references = References(
        [scenario.reference(version) for version in versions], ModelDeclaration.model_validate(declared)
    )
    for version in (1, 4, 9, 12):
        references.note(scenario.prediction(1, 0, version=version))
    return references


def test_versions_that_learned_online_have_the_reference_before_them():
    references = learning_references(4, 10)
    assert references.unknown == frozenset()
    assert [references.get(version) for version in (0, 3)] == [None, None]
    assert [references.get(version).version for version in (4, 9, 10, 12)] == [4, 4, 10, 10]
    assert [references.lineage(version) for version in (0, 1, 3, 4, 9, 12)] == [0, 1, 1, 4, 4, 10]
    assert references.row_binner(9) is references.row_binner(4)


def test_rows_of_the_champions_arm_are_compared_with_the_reference_of_their_version():
    references = learning_references(4)
    given = [
        scenario.prediction(0, 0, version=3),
        scenario.prediction(1, 0, version=4),
        scenario.prediction(2, 0, version=12),
        scenario.prediction(3, 0, version=12, arm="challenger"),
    ]
    binner = references.row_binner(9)
    assert binner is not None
    assert binner.assign(PredictionRows(given)).answered.tolist() == [False, True, True, False]
