"""The section ``governance``: who answers for a model, how much can go wrong, and what its card says."""

from typing import Literal

from pydantic import Field

from services.runtime.declaration.strict import DAYS_MAX, Strict


class Governance(Strict):
    """Who answers for a model, how much can go wrong, and what its card says."""

    contact: str = Field("", max_length=200)
    """Whom to ask, such as a mail address or a channel; empty: the ``owner``."""
    risk: Literal["", "minimal", "limited", "high"] = ""
    """Risk level, such as that of the EU AI Act; empty: nobody has judged it."""
    approval: Literal["none", "required"] = "none"
    """Whether a version answers requests only after ``driftline approve``."""
    review_days: float = Field(365, gt=0, le=DAYS_MAX)
    """Maximum days between two reviews by a person; an approval counts as one."""
    intended_use: str = Field("", max_length=10_000)
    """What the model is for, and for whom."""
    limitations: str = Field("", max_length=10_000)
    """Where the model must not be used, and what it cannot do."""
    ethical_considerations: str = Field("", max_length=10_000)
    """Who may be harmed by a wrong prediction, and what is done against it."""
