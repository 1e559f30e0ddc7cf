"""The section ``business``: the cost of predictions."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, FiniteFloat

from services.runtime.declaration.strict import Strict


def _named(costs: Any) -> Any:
    """Convert keys to text: the classes of a binary model are numbers in YAML."""
    if not isinstance(costs, dict):
        return costs
    return {str(name): _named(cost) for name, cost in costs.items()}


class Business(Strict):
    """The cost of predictions: by prediction and label for classes, by the error for a regression."""

    unit: str = Field(min_length=1, max_length=40)
    """Unit of the cost of one prediction, such as USD or minutes."""
    costs: Annotated[dict[str, dict[str, FiniteFloat]], BeforeValidator(_named)] = Field({})
    """Classification: cost by prediction, then by label. Negative: a gain."""
    over: FiniteFloat = Field(0.0, ge=0)
    """Regression: cost of each unit by which the prediction is above the label."""
    under: FiniteFloat = Field(0.0, ge=0)
    """Regression: cost of each unit by which the prediction is below the label."""
    tolerance: FiniteFloat = Field(0.0, ge=0)
    """How far the mean cost may be above the reference's before the model counts as worse; used if
    ``retraining.harm`` is ``cost``."""
