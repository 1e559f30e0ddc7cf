"""The gates that a candidate must pass to become champion: `judge` of what was measured on held-out rows."""

from services.model_registry.gate_results import GateReport, GateResult, Outcome
from services.retraining.gates.evidence import CallSample, CardState, Evidence, HeldOut, Leak
from services.retraining.gates.judgement import judge
from services.retraining.gates.refusal import refusals

__all__ = [
    "CallSample",
    "CardState",
    "Evidence",
    "GateReport",
    "GateResult",
    "HeldOut",
    "Leak",
    "Outcome",
    "judge",
    "refusals",
]
