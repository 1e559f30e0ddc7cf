"""A card has what people wrote and what was measured, and says what it lacks."""

from typing import Any

import msgspec
import pytest

from services.model_registry import model_card
from services.model_registry.ledger_chain import ORIGIN, EntryDraft, decoded, sealed
from services.model_registry.model_card import CardFacts, GateFact, ModelCard
from services.runtime.declaration import Governance, ModelDeclaration
from services.runtime.declaration_file import load
from services.runtime.settings import ROOT
from streams.records import LedgerEntry

TEXTS = {
    "risk": "limited",
    "intended_use": "To warn passengers.",
    "limitations": "New York only.",
    "ethical_considerations": "A wrong warning costs ten minutes.",
}
FACTS = CardFacts(
    version=3,
    run_id="r",
    data={"sha256": "d1", "rows": "1000"},
    metrics={"log_loss": 0.46, "champion_log_loss": 0.48},
    gates=[GateFact("champion", "passed", "better by 0.02"), GateFact("segments", "failed", "EWR is worse")],
    code={"driftline.digest": "abc"},
)


def declaration(**governance: Any) -> ModelDeclaration:
    made = load(ROOT / "models" / "arrival_delay" / "model.yaml")
    return made.model_copy(update={"governance": Governance.model_validate(TEXTS | governance)})


def entry(kind: str, version: int = 3, request_id: str = "q") -> LedgerEntry:
    draft = EntryDraft(
        kind=kind, model="arrival_delay", version=version, evidence={"reason": "why"}, actor="ada", at_ms=0,
        request_id=request_id,
    )  # fmt: skip
    return decoded(sealed(draft, 1, ORIGIN))


def card(facts: CardFacts = FACTS, /, **governance: Any) -> ModelCard:
    return model_card.build(declaration(**governance), facts, [entry("approval")], now_ms=5)


def rows(found: ModelCard, title: str) -> list[Any]:
    return next(list(section.rows) for section in found.sections if section.title == title)


def test_card_of_a_retrained_version_is_complete() -> None:
    assert model_card.missing_sections(card()) == []
    assert rows(card(), "Performance") == [("log_loss", "0.46", "0.48")]
    assert rows(card(), "Segments") == [("segments", "failed", "EWR is worse")]
    assert rows(card(), "Gates") == [("champion", "passed", "better by 0.02")]
    assert [row[1:4] for row in rows(card(), "Decisions")] == [("approval", "ada", "why")]


@pytest.mark.parametrize(
    ("key", "title"),
    [
        ("risk", "Owner and risk"),
        ("intended_use", "Intended use"),
        ("limitations", "Limitations"),
        ("ethical_considerations", "Ethical considerations"),
    ],
)
def test_text_that_nobody_wrote_is_missing_with_its_remedy(key: str, title: str) -> None:
    found = card(FACTS, **{key: ""})
    assert model_card.missing_sections(found) == [title]
    (remedy,) = [section.remedy for section in found.sections if section.is_missing]
    assert f"governance.{key}" in remedy


def test_version_without_a_run_lacks_what_is_measured() -> None:
    found = card(CardFacts(version=3))
    assert model_card.missing_sections(found) == ["Training data", "Performance", "Gates", "Reproduction"]


def test_section_that_would_be_different_now_is_stale() -> None:
    kept = msgspec.json.decode(msgspec.json.encode(card()), type=ModelCard)
    assert model_card.stale_sections(kept, card()) == []
    assert model_card.stale_sections(kept, card(limitations="Not for cargo.")) == ["Limitations"]
    later = msgspec.structs.replace(FACTS, data={"sha256": "d2", "rows": "1000"})
    assert model_card.stale_sections(kept, card(later)) == ["Training data"]


def test_decisions_made_after_the_card_do_not_make_it_stale() -> None:
    later = model_card.build(declaration(), FACTS, [entry("approval"), entry("review")], now_ms=9)
    assert model_card.stale_sections(card(), later) == []


def test_decisions_of_the_request_that_made_a_version_belong_to_it() -> None:
    entries = [
        entry("trigger", 0),
        entry("gate"),
        entry("promotion"),
        entry("trigger", 0, "another"),
        entry("approval", 2, "x"),
    ]
    found = model_card.decisions(entries, "arrival_delay", 3)
    assert [each.kind for each in found] == ["trigger", "promotion"]
    assert model_card.decisions(entries, "arrival_delay", 0) == []


def test_tags_of_the_version_complete_the_card_of_a_candidate() -> None:
    candidate = card(msgspec.structs.replace(FACTS, version=0, code={"driftline.code.commit": "c0ffee"}))
    assert candidate.title == "arrival_delay candidate"
    whole = card(
        msgspec.structs.replace(FACTS, code={"driftline.digest": "abc", "driftline.code.commit": "c0ffee"})
    )
    assert whole.title == "arrival_delay version 3"
    assert model_card.stale_sections(candidate, whole) == ["Reproduction"]
    complete = model_card.with_tags(candidate, {"driftline.digest": "abc"})
    assert model_card.stale_sections(complete, whole) == []
