"""An approval in a rollout is of the files that the registry has now."""

from types import SimpleNamespace
from typing import Any

import pytest

from services.model_registry import version_digest
from services.model_registry.ledger_chain import ORIGIN, EntryDraft, decoded, sealed
from services.rollout import approval_lookup
from services.rollout.approval_lookup import ASK_SECONDS, ApprovalLookup
from services.runtime.settings import Settings
from streams.outages import OutageError


def lookup(evidence: dict[str, Any]) -> ApprovalLookup:
    draft = EntryDraft(
        kind="approval", model="m", version=3, evidence=evidence, actor="ada", at_ms=0, request_id="m/3"
    )
    ledger: Any = SimpleNamespace(entries=[decoded(sealed(draft, 1, ORIGIN))])
    return ApprovalLookup(Settings(_env_file=None), ledger)


def test_version_that_is_registered_anew_loses_its_approval_and_an_outage_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, digests = [1000.0], ["aaa", "", "bbb"]
    asked: list[float] = []

    def of_version(*_: object) -> str:
        asked.append(now[0])
        if not (found := digests.pop(0)):
            raise OutageError("MLflow is away")
        return found

    monkeypatch.setattr(version_digest, "of_version", of_version)
    monkeypatch.setattr(approval_lookup, "time", SimpleNamespace(monotonic=lambda: now[0]))
    approval = lookup({"digest": "aaa"})
    states = []
    for _ in range(3):
        states += [approval.of("m", 3).state, approval.of("m", 3).state]
        now[0] += ASK_SECONDS
    assert states == ["approved", "approved", "approved", "approved", "none", "none"]
    assert len(asked) == 3, "not for each decision"


def test_decision_without_a_digest_needs_no_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version_digest, "of_version", lambda *_: pytest.fail("it was asked"))
    approval = lookup({"reason": "good"})
    assert approval.of("m", 3).state == "approved"
    assert approval.of("m", 4).state == "none"
