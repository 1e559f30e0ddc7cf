from services.retraining.gates import CardState, model_card
from tests.unit.retraining.gates.held_out_rows import declaration, evidence, gates_of

DECLARED = declaration(model_card=True)


def check(card: CardState | None):
    return model_card.check(DECLARED, gates_of(DECLARED), evidence(card=card))[0]


def test_complete_card_of_this_version_passes():
    assert check(CardState()).outcome == "passed"


def test_missing_and_stale_sections_fail_and_are_named():
    found = check(CardState(missing=["limits", "ethics"], stale=["data"]))

    assert found.outcome == "failed"
    assert found.text == "sections without text: limits, ethics; sections of another version: data"


def test_no_card_fails_where_one_is_required():
    assert check(None).outcome == "failed"
    assert model_card.check(declaration(), gates_of(declaration()), evidence()) == []
