"""The card of a version: what it is for, on what it was trained, how good it is, and who decided. Pure.

A card is made from model.yaml, from the facts of the version's run, and from the ledger. The texts about use,
limitations and ethics are written by people in the section ``governance``; everything else is measured.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from services.model_registry.approvals import APPROVED, REJECTED, REVIEWED
from services.model_registry.ledger_drafts import ARMS_CHANGED, PROMOTION, REGISTERED, ROLLBACK, TRIGGER
from services.runtime import times
from services.runtime.declaration import ModelDeclaration
from streams.records import LedgerEntry

Row = tuple[str, ...]
HISTORY = "Decisions"
REPRODUCTION = "Reproduction"
_DECISIONS = (REGISTERED, TRIGGER, PROMOTION, APPROVED, REJECTED, REVIEWED, ROLLBACK, ARMS_CHANGED)


class GateFact(msgspec.Struct, frozen=True):
    """What one gate found."""

    name: str
    outcome: str
    text: str
    numbers: dict[str, float] = {}


class CardFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a version, or of a candidate that has no number yet."""

    version: int = 0
    """0: not registered yet."""
    run_id: str = ""
    data: dict[str, str] = {}
    """The training set: digest, rows, first and last event time, and more, by name."""
    metrics: dict[str, float] = {}
    """Measures on the held-out rows; those of the champion on the same rows begin with ``champion_``."""
    parameters: dict[str, str] = {}
    gates: list[GateFact] = []
    code: dict[str, str] = {}
    """What makes the version again: digests of code, signature, versions of libraries, by name."""


class CardSection(msgspec.Struct, frozen=True):
    """One section; without text and rows it is missing."""

    title: str
    text: str = ""
    header: Row = ()
    rows: Sequence[Row] = []
    is_required: bool = True
    remedy: str = ""
    """What to do if it is missing."""

    @property
    def is_missing(self) -> bool:
        """Whether it should have content and has none."""
        return self.is_required and not self.text.strip() and not self.rows


class ModelCard(msgspec.Struct, frozen=True):
    """The card of one version, or of a candidate that has no number yet."""

    model: str
    version: int
    """0: not registered yet."""
    made_ms: int
    """Wall time."""
    sections: list[CardSection]

    @property
    def title(self) -> str:
        """The model, with its version or the word candidate."""
        return f"{self.model} version {self.version}" if self.version else f"{self.model} candidate"


def build(
    declaration: ModelDeclaration, facts: CardFacts, entries: Sequence[LedgerEntry], *, now_ms: int
) -> ModelCard:
    """Return the card of a version.

    Args:
        declaration: The present model.yaml.
        facts: What is known of the version.
        entries: The ledger; entries of other models and versions are left out.
        now_ms: Wall time.
    """
    sections = [
        *declared_sections(declaration),
        _inputs(declaration),
        _table("Training data", facts.data, "retrain the model, or register the version from a run"),
        _performance(facts),
        *_gates(declaration, facts),
        _table("Parameters", facts.parameters, is_required=False),
        _reproduction(facts.code),
        _history(declaration.name, facts.version, entries),
    ]
    return ModelCard(declaration.name, facts.version, now_ms, sections)


def declared_sections(declaration: ModelDeclaration) -> list[CardSection]:
    """Return the sections that people write in model.yaml."""
    return [_owner(declaration), *_texts(declaration)]


def with_tags(card: ModelCard, tags: Mapping[str, str]) -> ModelCard:
    """Return the card of a candidate with the signed tags of its version, which are made after the card."""
    sections = [
        _reproduction({row[0]: row[1] for row in section.rows} | dict(tags))
        if section.title == REPRODUCTION
        else section
        for section in card.sections
    ]
    return msgspec.structs.replace(card, sections=sections)


def missing_sections(card: ModelCard) -> list[str]:
    """Return the titles of the sections that should have content and have none."""
    return [section.title for section in card.sections if section.is_missing]


def stale_sections(stored: ModelCard, current: ModelCard) -> list[str]:
    """Return the titles of the sections of a stored card that would be different now.

    Decisions are made after the card: that section never counts.
    """
    kept = {section.title: section for section in stored.sections}
    return [
        section.title
        for section in current.sections
        if section.title != HISTORY and kept.get(section.title) != section
    ]


def _owner(declaration: ModelDeclaration) -> CardSection:
    governance = declaration.governance
    risk = f"Risk: {governance.risk}. " if governance.risk else ""
    text = (
        f"{risk}Owner: {declaration.owner}. Contact: {governance.contact or declaration.owner}. "
        f"Task: {declaration.task}. Approval: {governance.approval}. "
        f"Reviewed every {governance.review_days:g} days."
    )
    return CardSection(
        "Owner and risk", text if risk else "", remedy="set governance.risk in model.yaml after judging it"
    )


def _texts(declaration: ModelDeclaration) -> Iterator[CardSection]:
    for title, key in (
        ("Intended use", "intended_use"),
        ("Limitations", "limitations"),
        ("Ethical considerations", "ethical_considerations"),
    ):
        text = str(getattr(declaration.governance, key)).strip()
        yield CardSection(title, text, remedy=f"write governance.{key} in model.yaml")


def _inputs(declaration: ModelDeclaration) -> CardSection:
    features = declaration.features
    asked = ", ".join(features.from_request) or "none"
    text = (
        f"Fields of the request: {asked}. Feature service: {features.service or 'none'}. "
        f"Label: {declaration.label.value} of the topic {declaration.label.topic}, within "
        f"{declaration.label.horizon_hours:g} hours"
        + ("." if declaration.label.absent is None else f", else {declaration.label.absent}.")
    )
    return CardSection("Inputs and label", text)


def _table(
    title: str, values: Mapping[str, str], remedy: str = "", *, is_required: bool = True
) -> CardSection:
    rows = [(name, value) for name, value in sorted(values.items())]
    return CardSection(title, "", ("", ""), rows, is_required, remedy)


def _reproduction(code: Mapping[str, str]) -> CardSection:
    return _table(REPRODUCTION, code, "retrain the model, or register the version again")


def _performance(facts: CardFacts) -> CardSection:
    own = {name: value for name, value in facts.metrics.items() if not name.startswith("champion_")}
    rows = [
        (name, f"{value:.6g}", _number(facts.metrics.get(f"champion_{name}")))
        for name, value in sorted(own.items())
    ]
    remedy = "retrain the model, or log metrics in the run that the version is registered from"
    return CardSection(
        "Performance", "", ("on held-out rows", "version", "champion then"), rows, remedy=remedy
    )


def _gates(declaration: ModelDeclaration, facts: CardFacts) -> Iterator[CardSection]:
    """Yield the gates: segments and fairness separately, and required where they are declared."""
    gates = declaration.gates
    groups = {"Segments": "segments", "Fairness": "fairness"}
    for title, key in groups.items():
        found = [gate for gate in facts.gates if gate.name.startswith(key)]
        is_declared = gates is not None and getattr(gates, key, None) is not None
        remedy = f"retrain the model: gates.{key} is declared, and this version was not judged by it"
        if found or is_declared:
            yield CardSection(title, "", _GATE_HEADER, [_gate(gate) for gate in found], is_declared, remedy)
    others = [gate for gate in facts.gates if not gate.name.startswith(tuple(groups.values()))]
    remedy = "retrain the model: this version was not judged by gates"
    yield CardSection("Gates", "", _GATE_HEADER, [_gate(gate) for gate in others], gates is not None, remedy)


_GATE_HEADER = ("gate", "outcome", "found")


def _gate(gate: GateFact) -> Row:
    return gate.name, gate.outcome.replace("_", " "), gate.text


def _history(model: str, version: int, entries: Sequence[LedgerEntry]) -> CardSection:
    rows = [
        (
            times.minute(entry.at_ms),
            entry.kind,
            entry.actor,
            str(entry.evidence.get("reason", "")),
            entry.hash[:12],
        )
        for entry in decisions(entries, model, version)
    ]
    return CardSection(HISTORY, "", ("at", "what", "by", "reason", "entry"), rows, is_required=False)


def decisions(entries: Sequence[LedgerEntry], model: str, version: int) -> list[LedgerEntry]:
    """Return the entries in which something was decided about a version, or that led to it."""
    own = [entry for entry in entries if entry.model == model]
    requests = {entry.request_id for entry in own if entry.version == version and version}
    return [
        entry
        for entry in own
        if entry.kind in _DECISIONS and (entry.version == version or entry.request_id in requests) and version
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
