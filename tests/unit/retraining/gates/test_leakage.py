from services.retraining.gates import Leak, leakage
from tests.unit.retraining.gates.held_out_rows import declaration, evidence, gates_of


def test_a_leak_fails_with_its_feature():
    declared = declaration()
    found = leakage.check(
        declared, gates_of(declared), evidence(leaks=[Leak("paid", "it is the label", 1.0)])
    )

    assert [each.outcome for each in found] == ["failed"]
    assert found[0].text.startswith("paid: it is the label;")
    assert found[0].numbers == {"paid": 1.0}


def test_no_leak_passes():
    declared = declaration()

    assert leakage.check(declared, gates_of(declared), evidence())[0].outcome == "passed"
