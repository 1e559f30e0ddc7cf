"""What is news about the gates of learned versions is in the log and in the ledger."""

from typing import Any

import pytest
import structlog.testing

from services.learning import gate_entries
from services.learning.version_gate import GateVerdict
from services.model_registry import ledger
from services.model_registry.gate_results import GateReport, Outcome, result
from services.runtime.settings import Settings


def verdict(version: int, outcome: Outcome, *, is_news: bool = True) -> GateVerdict:
    found = result("champion", outcome, "a sentence", {"rows": 64})
    return GateVerdict(version, version * 1000, GateReport([found], "accept"), is_news)


def test_news_are_logged_and_written_with_their_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Any] = []
    monkeypatch.setattr(ledger, "append", lambda _, drafts, source: written.extend(drafts))
    given = [verdict(1, "passed"), verdict(2, "passed", is_news=False), verdict(3, "failed")]
    with structlog.testing.capture_logs() as logs:
        gate_entries.tell(Settings(), "m", given)
        gate_entries.tell(Settings(), "m", given[2:])
    assert [(each["log_level"], each["version"], each["passed"]) for each in logs] == [
        ("info", 1, True),
        ("warning", 3, False),
        ("warning", 3, False),
    ]
    assert [(each.kind, each.version, each.actor) for each in written] == [
        ("gate", 1, "learning"),
        ("gate", 3, "learning"),
        ("gate", 3, "learning"),
    ]
    assert written[1].evidence["gates"][0]["numbers"] == {"rows": 64.0}
    assert written[1].entry_id == written[2].entry_id  # a repeat after a crash
    assert written[0].entry_id != written[1].entry_id
