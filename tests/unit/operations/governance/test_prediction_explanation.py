"""The explanation of a prediction: the first one counts, and decisions are told apart by time."""

import msgspec

from services.model_registry.ledger_chain import ORIGIN, EntryDraft, decoded, sealed
from services.model_registry.model_card import CardFacts
from services.operations.governance import prediction_explanation
from services.operations.governance.prediction_search import FoundOutcome, FoundPrediction
from streams.records import LedgerEntry

FOUND = FoundPrediction(
    prediction_id="p1", model="m", version=3, arm="champion", arm_weight=9500, event_time_ms=60_000,
    scored_time_ms=120_000, features=[7.0, "UA"], features_lag_ms=0, score=0.25, prediction=0,
    feature_set="f", place="archive",
)  # fmt: skip
OUTCOME = FoundOutcome(label=1.0, label_time_ms=180_000, loss=1.4, cost=30.0, class_name=None, correction=1)


def entry(kind: str, at_ms: int) -> LedgerEntry:
    draft = EntryDraft(
        kind=kind, model="m", version=3, evidence={"reason": "why"}, actor="ada", at_ms=at_ms, request_id="q"
    )
    return decoded(sealed(draft, 1, ORIGIN))


def test_first_prediction_counts_and_decisions_are_told_apart_by_time() -> None:
    found = prediction_explanation.explained(
        [FOUND, msgspec.structs.replace(FOUND, version=4)],
        OUTCOME,
        ["km", "carrier"],
        {"km": "d1"},
        CardFacts(version=3, run_id="r", data={"sha256": "d"}),
        [entry("approval", 120_000), entry("rollback", 120_001)],
    )
    assert [each.kind for each in found.decisions] == ["approval"]
    assert [each.kind for each in found.later] == ["rollback"]
    assert prediction_explanation.lines(found) == [
        "p1: 0 (score 0.25), from archive",
        "  model m, version 3, arm champion with 95% of the keys",
        "  asked for 1970-01-01 00:01 UTC (event time), answered at 1970-01-01 00:02 UTC (wall time)",
        "  1 more predictions have this id; the first one counts",
        "features, complete up to the event time",
        "  km = 7.0 (definition d1)",
        "  carrier = UA",
        "label",
        "  1 at 1970-01-01 00:03 UTC, loss 1.4, cost 30, corrected 1 times",
        "data that the version was trained on",
        "  sha256: d",
        "  run: r",
        "decisions before the prediction",
        "  1970-01-01 00:02 UTC approval by ada: why (entry 1)",
        "decisions after the prediction",
        "  1970-01-01 00:02 UTC rollback by ada: why (entry 1)",
    ]


def test_what_is_not_known_is_said() -> None:
    stale = msgspec.structs.replace(FOUND, features_lag_ms=90_000)
    lines = prediction_explanation.lines(prediction_explanation.explained([stale], None, None, {}, None, []))
    assert "features, 90 s behind the event time" in lines
    assert "  feature 0 = 7.0" in lines
    assert "  none has been archived" in lines
    assert "  the registry has no such version: it learned online, or was deleted" in lines
    assert "  none: the ledger is younger, or the version was changed by another program" in lines
