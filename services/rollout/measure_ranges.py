"""The range within which the cost of one prediction counts. Pure."""

from services.monitoring.model_metrics import MeasureRange
from services.runtime.declaration import ModelDeclaration


def cost(declaration: ModelDeclaration) -> MeasureRange:
    """Return the smallest and the largest cost of one prediction.

    The costs of a regression are those of errors up to the declared maximum.
    """
    business, loss = declaration.business, declaration.rollout.guardrails.loss
    assert business is not None, "a guardrail on the cost is declared together with it"
    costs = [each for row in business.costs.values() for each in row.values()]
    if not costs:
        largest = loss.maximum if loss is not None else 1.0
        costs = [0.0, max(business.over, business.under) * largest]
    low, high = min(costs), max(costs)
    return MeasureRange(low, high if high > low else low + 1.0)
