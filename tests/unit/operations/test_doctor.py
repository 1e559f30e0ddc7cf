"""`driftline doctor` prints what it found, and exits with 1 for a problem."""

import msgspec
import pytest

from services.operations import doctor as command
from services.operations.diagnoses import Diagnosis


def test_a_problem_is_printed_with_its_fix(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = [Diagnosis("Kafka", "responds at a:1"), Diagnosis("topics", "missing: b", "driftline setup")]
    monkeypatch.setattr(command, "diagnosed", lambda _: parts)
    with pytest.raises(SystemExit) as ended:
        command.doctor()
    assert ended.value.code == 1
    assert capsys.readouterr().out.splitlines() == [
        "ok       Kafka: responds at a:1",
        "problem  topics: missing: b",
        "         fix: driftline setup",
    ]
    with pytest.raises(SystemExit):
        command.doctor(json=True)
    document = msgspec.json.decode(capsys.readouterr().out)
    assert not document["ok"]
    assert document["parts"][1] == {
        "name": "topics", "ok": False, "text": "missing: b", "fix": "driftline setup",
    }  # fmt: skip


def test_without_a_problem_it_ends_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "diagnosed", lambda _: [Diagnosis("Kafka", "responds at a:1")])
    command.doctor()
