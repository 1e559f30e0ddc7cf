"""A complete and fresh model card. Pure."""

from services.model_registry.gate_results import GateResult, result
from services.retraining.gates.evidence import Evidence
from services.runtime.declaration import Gates, ModelDeclaration

NAME = "model card"


def check(_: ModelDeclaration, gates: Gates, evidence: Evidence) -> list[GateResult]:
    """Return the result; none if the gate is not declared."""
    if not gates.model_card:
        return []
    card = evidence.card
    if card is None:
        return [result(NAME, "failed", "there is no model card: run the step that writes it")]
    numbers = {"missing": len(card.missing), "stale": len(card.stale)}
    faults = [
        f"{what}: {', '.join(sections)}"
        for what, sections in (
            ("sections without text", card.missing),
            ("sections of another version", card.stale),
        )
        if sections
    ]
    if faults:
        return [result(NAME, "failed", "; ".join(faults), numbers)]
    return [result(NAME, "passed", "the model card is complete and of this version", numbers)]
