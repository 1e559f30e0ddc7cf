"""All gates of a model, in the order in which people read them. Pure."""

import dataclasses
from collections.abc import Callable, Sequence

from services.model_registry.gate_results import GateReport, GateResult
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
from services.retraining.gates.evidence import CardState, Evidence
from services.runtime.declaration import Gates, ModelDeclaration

Gate = Callable[[ModelDeclaration, Gates, Evidence], list[GateResult]]
DescribeCard = Callable[[Sequence[GateResult]], CardState]
"""Returns what the card lacks that shows these results."""
GATES: tuple[Gate, ...] = (
    limits.check,
    champion.check,
    segments.check,
    fairness.check,
    calibration.check,
    leakage.check,
    latency.check,
)
"""All but that of the card, which shows their results."""


def judge(
    declaration: ModelDeclaration, evidence: Evidence, describe_card: DescribeCard | None = None
) -> GateReport:
    """Return what the declared gates find.

    Args:
        declaration: With a section ``gates``.
        evidence: Of one candidate.
        describe_card: Describes the card for its gate; None: ``evidence.card`` does.

    Raises:
        RetrainingError: A declared gate needs a package that is not installed.
    """
    gates = declaration.gates
    assert gates is not None, "a model without gates is not retrained"
    results = [each for gate in GATES for each in gate(declaration, gates, evidence)]
    if describe_card is not None and gates.model_card:
        evidence = dataclasses.replace(evidence, card=describe_card(results))
    results += model_card.check(declaration, gates, evidence)
    return GateReport(results, gates.undecided)
