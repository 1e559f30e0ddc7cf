"""What the ledger says of registrations, changes of arms and retrainings."""

import msgspec

from services.model_registry import ledger_drafts
from services.model_registry.ledger_chain import ORIGIN, EntryDraft, decoded, sealed
from streams.records import (
    Arm,
    DriftAlarm,
    LearnedSpan,
    LedgerEntry,
    ModelChanged,
    RetrainingFinished,
    RetrainingRequested,
)

CHANGE = ModelChanged(
    model="m",
    arms=[
        Arm(name="champion", version=2, weight=10_000),
        Arm(name="champion", version=3, weight=9000, effective_from_ms=50, buckets=[(0, 9000)]),
        Arm(name="new", version=4, weight=1000, effective_from_ms=50, segment={"origin": ["EWR"]}),
    ],
    changed_at_ms=50,
    reason="by hand",
)
FINISHED = RetrainingFinished(
    request_id="r",
    model="m",
    trigger="drift",
    requested_at_ms=5,
    result="promoted",
    version=3,
    metrics={"log_loss": 0.4},
    rows=100,
    run_id="abc",
)


def entry(draft: EntryDraft) -> LedgerEntry:
    return decoded(sealed(draft, 1, ORIGIN))


def test_change_of_arms_is_an_entry_about_the_new_champion() -> None:
    found = entry(ledger_drafts.of_change(CHANGE, actor="ada", at_ms=60))
    assert (found.kind, found.version, found.actor, found.event_time_ms) == ("arms_changed", 3, "ada", 50)
    assert found.evidence["arms"] == [
        {"name": "champion", "version": 2, "weight": 10_000},
        {"name": "champion", "version": 3, "weight": 9000, "effective_from_ms": 50},
        {
            "name": "new",
            "version": 4,
            "weight": 1000,
            "effective_from_ms": 50,
            "segment": {"origin": ["EWR"]},
        },
    ]


def test_entry_of_a_change_has_one_id_whoever_writes_it() -> None:
    ours = ledger_drafts.of_change(CHANGE, actor="ada", at_ms=60)
    theirs = ledger_drafts.of_change(CHANGE, actor="rollout", at_ms=90)
    other = ledger_drafts.of_change(msgspec.structs.replace(CHANGE, changed_at_ms=51), actor="a", at_ms=60)
    assert ours.entry_id == theirs.entry_id != other.entry_id


def test_changes_that_the_ledger_lacks_are_found() -> None:
    learned = msgspec.structs.replace(CHANGE, model="l", learned=LearnedSpan(from_ms=0, until_ms=1))
    latest = {"m": CHANGE, "l": learned}
    assert ledger_drafts.unrecorded([], latest) == [CHANGE]
    assert (
        ledger_drafts.unrecorded([entry(ledger_drafts.of_change(CHANGE, actor="a", at_ms=1))], latest) == []
    )


def test_version_is_registered_once() -> None:
    draft = ledger_drafts.of_registration("m", 3, {"source": "m.skops"}, actor="ada", at_ms=1)
    assert (draft.entry_id, draft.evidence) == ("m/3/registered", {"source": "m.skops"})


def test_number_that_is_given_again_is_another_version() -> None:
    drafts = [
        ledger_drafts.of_registration("m", 3, {"driftline.digest": digest}, actor="ada", at_ms=1)
        for digest in ("aaa", "bbb")
    ]
    assert [draft.entry_id for draft in drafts] == ["m/3/aaa/registered", "m/3/bbb/registered"]


def test_reason_of_a_retraining_is_kept_with_its_alarms() -> None:
    alarm = DriftAlarm(
        alarm_id="a1", model="m", version=2, kind="loss", subject="log_loss", value=1.0, threshold=0.5,
        detected_at_ms=4, since_ms=2, message="worse",
    )  # fmt: skip
    request = RetrainingRequested(
        request_id="r", model="m", trigger="drift", requested_at_ms=5, reason="harm", evidence=[alarm]
    )
    found = entry(ledger_drafts.of_request(request, at_ms=9))
    assert (found.entry_id, found.actor) == ("r/trigger", "retraining")
    assert found.evidence["alarms"][0]["alarm_id"] == "a1"


def test_retraining_ends_with_its_data_its_gates_and_its_result() -> None:
    gates = [{"name": "floor", "outcome": "passed", "text": "0.4 is below 0.7", "numbers": {"limit": 0.7}}]
    drafts = ledger_drafts.of_result(FINISHED, at_ms=9, data_set={"digest": "d"}, gates=gates)
    assert [draft.entry_id for draft in drafts] == ["r/data_set", "r/gate/floor", "r/promotion"]
    assert entry(drafts[1]).evidence["numbers"] == {"limit": 0.7}
    assert entry(drafts[2]).evidence["metrics"] == {"log_loss": 0.4}


def test_retraining_that_promotes_nothing_has_a_result_as_well() -> None:
    failed = msgspec.structs.replace(FINISHED, result="failed", version=0, reasons=["no labels"])
    (draft,) = ledger_drafts.of_result(failed, at_ms=9)
    assert (draft.entry_id, draft.evidence["reasons"]) == ("r/retraining_finished", ["no labels"])
