"""No feature holds the label, or what is known only after the event. Pure."""

from services.model_registry.gate_results import GateResult, result
from services.retraining.gates.evidence import Evidence
from services.runtime.declaration import Gates, ModelDeclaration

NAME = "leakage"


def check(_: ModelDeclaration, __: Gates, evidence: Evidence) -> list[GateResult]:
    """Return the result; the leaks are those that the validation of the training set found."""
    if not evidence.leaks:
        return [result(NAME, "passed", "no feature tells the label almost perfectly")]
    text = "; ".join(f"{each.feature}: {each.text}" for each in evidence.leaks)
    text += "; take it out of features, or raise retraining.leak_score_max"
    return [result(NAME, "failed", text, {each.feature: each.certainty for each in evidence.leaks})]
