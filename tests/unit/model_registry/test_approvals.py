"""Who may answer requests: approvals and rejections follow from the ledger."""

from collections.abc import Sequence

import pytest

from services.model_registry import approvals
from services.model_registry.approvals import APPROVED, REJECTED, REVIEWED, ApprovalError
from services.model_registry.ledger_chain import ORIGIN, EntryDraft, decoded, sealed
from services.runtime.declaration import Governance, ModelDeclaration
from services.runtime.declaration_file import load
from services.runtime.settings import ROOT
from streams.records import LedgerEntry

DAY_MS = 86_400_000


def entry(
    kind: str,
    version: int = 3,
    *,
    by: str = "ada",
    reason: str = "good",
    model: str = "m",
    digest: str = "",
) -> LedgerEntry:
    draft = EntryDraft(
        kind=kind,
        model=model,
        version=version,
        evidence={"reason": reason} | ({"digest": digest} if digest else {}),
        actor=by,
        at_ms=DAY_MS,
        request_id=f"{model}/{version}",
    )
    return decoded(sealed(draft, 1, ORIGIN))


def declared(approval: str) -> ModelDeclaration:
    made = load(ROOT / "models" / "arrival_delay" / "model.yaml")
    governance = Governance.model_validate({"approval": approval})
    return made.model_copy(update={"name": "m", "governance": governance})


def decide(entries: Sequence[LedgerEntry], kind: str, reason: str = "better", digest: str = "") -> EntryDraft:
    return approvals.decided(entries, kind, "m", 3, digest, by="bob", reason=reason, at_ms=7)


def test_version_without_entries_is_not_approved() -> None:
    others = [entry(APPROVED, 2), entry(APPROVED, 3, model="n"), entry("gate")]
    found = approvals.approval_of(others, "m", 3)
    assert (found.state, str(found)) == ("none", "not approved")


def test_approval_says_who_when_and_why() -> None:
    made = entry(APPROVED)
    found = approvals.approval_of([made], "m", 3)
    assert str(found) == "approved by ada on 1970-01-02: good"
    assert found.entry_hash == made.hash


@pytest.mark.parametrize("kinds", [[APPROVED, REJECTED], [REJECTED], [REJECTED, APPROVED]])
def test_rejection_counts_for_ever(kinds: list[str]) -> None:
    assert approvals.approval_of([entry(kind) for kind in kinds], "m", 3).state == "rejected"


def test_approved_version_may_answer() -> None:
    assert approvals.refusal([entry(APPROVED)], declared("required"), 3) == ""
    assert approvals.refusal([], declared("none"), 3) == ""


def test_version_that_lacks_an_approval_is_refused_with_the_command_to_run() -> None:
    assert "driftline approve m 3 --by NAME" in approvals.refusal([], declared("required"), 3)


def test_rejected_version_is_refused_also_where_no_approval_is_required() -> None:
    refused = approvals.refusal([entry(REJECTED, reason="biased")], declared("none"), 3)
    assert refused.startswith("m version 3 was rejected by ada on 1970-01-02: biased: choose")


def test_decision_is_an_entry_of_the_version() -> None:
    draft = decide([], APPROVED, "  better  ")
    assert (draft.entry_id, draft.actor, draft.evidence) == ("m/3/approval", "bob", {"reason": "better"})
    assert decide([entry(APPROVED)], REJECTED).entry_id == "m/3/rejection", "an approval can be withdrawn"


def test_version_that_was_registered_anew_inherits_no_decision() -> None:
    """A number may be given again after a version is deleted; the digest of its files tells them apart."""
    for kind, state in ((APPROVED, "approved"), (REJECTED, "rejected")):
        entries = [entry(kind, digest="aaa")]
        assert approvals.approval_of(entries, "m", 3, "aaa").state == state
        assert approvals.approval_of(entries, "m", 3, "bbb").state == "none"
    approved = [entry(APPROVED, digest="aaa")]
    assert approvals.refusal(approved, declared("required"), 3, "aaa") == ""
    refused = approvals.refusal(approved, declared("required"), 3, "bbb")
    assert refused.startswith(
        "m version 3 is not approved, its approval is of other files, and its model.yaml"
    )


def test_decision_without_a_digest_stays_valid() -> None:
    assert approvals.approval_of([entry(APPROVED)], "m", 3, "bbb").state == "approved"
    assert approvals.approval_of([entry(REJECTED)], "m", 3, "bbb").state == "rejected"


def test_where_the_digest_is_not_known_a_rejection_counts_and_an_approval_does_not() -> None:
    assert approvals.approval_of([entry(APPROVED, digest="aaa")], "m", 3).state == "none"
    assert approvals.approval_of([entry(REJECTED, digest="aaa")], "m", 3).state == "rejected"


def test_decision_names_the_digest_and_is_another_entry_for_other_files() -> None:
    draft = decide([entry(APPROVED, digest="aaa")], APPROVED, digest="bbb")
    assert draft.evidence == {"reason": "better", "digest": "bbb"}
    assert draft.entry_id == "m/3/bbb/approval"
    with pytest.raises(ApprovalError, match="was approved by ada"):
        decide([entry(APPROVED, digest="bbb")], APPROVED, digest="bbb")


def test_only_versions_with_a_bound_decision_need_their_digest() -> None:
    entries = [entry(APPROVED), entry(APPROVED, 4, digest="aaa"), entry("gate", 5, digest="aaa")]
    assert [approvals.is_bound(entries, "m", version) for version in (3, 4, 5)] == [False, True, False]


@pytest.mark.parametrize(
    ("earlier", "kind", "message"),
    [
        (APPROVED, APPROVED, "was approved by ada on 1970-01-02: good: nothing is left to do"),
        (REJECTED, APPROVED, "was rejected by ada .*: register a new version"),
        (REJECTED, REJECTED, "was rejected by ada .*: register a new version"),
    ],
)
def test_decision_that_was_made_before_is_refused(earlier: str, kind: str, message: str) -> None:
    with pytest.raises(ApprovalError, match=message):
        decide([entry(earlier)], kind)


@pytest.mark.parametrize(("reason", "message"), [("  ", "give --reason TEXT"), ("x" * 2001, "give a link")])
def test_reason_is_required_and_bounded(reason: str, message: str) -> None:
    with pytest.raises(ApprovalError, match=message):
        decide([], APPROVED, reason)


def test_last_review_is_the_last_act_of_a_person() -> None:
    entries = [entry(REVIEWED, by="ada"), entry(APPROVED, by="bob"), entry("gate", by="retraining")]
    found = approvals.last_review(entries, "m")
    assert found is not None
    assert found.actor == "bob"
    assert approvals.last_review(entries, "n") is None
