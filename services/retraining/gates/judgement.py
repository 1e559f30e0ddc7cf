"""All gates of a model, in the order in which people read them. Pure."""

from collections.abc import Callable

from services.retraining.gates import (
    calibration,
    champion,
    fairness,
    latency,
    leakage,
    limits,
    model_card,
    segments,
)
from services.retraining.gates.evidence import Evidence
from services.retraining.gates.results import GateReport, GateResult
from services.runtime.declaration import Gates, ModelDeclaration

Gate = Callable[[ModelDeclaration, Gates, Evidence], list[GateResult]]
GATES: tuple[Gate, ...] = (
    limits.check,
    champion.check,
    segments.check,
    fairness.check,
    calibration.check,
    leakage.check,
    latency.check,
    model_card.check,
)


def judge(declaration: ModelDeclaration, evidence: Evidence) -> GateReport:
    """Return what the declared gates find.

    Args:
        declaration: With a section ``gates``.
        evidence: Of one candidate.

    Raises:
        RetrainingError: A declared gate needs a package that is not installed.
    """
    gates = declaration.gates
    assert gates is not None, "a model without gates is not retrained"
    results = [each for gate in GATES for each in gate(declaration, gates, evidence)]
    return GateReport(results, gates.undecided)
