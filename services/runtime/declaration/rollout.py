"""The section ``rollout``: how a new version replaces the champion."""

from services.runtime.declaration.strict import Strict


class Rollout(Strict):
    """How a new version replaces the champion."""

    keep_first_as_shadow: str | None = None
    """Name of a shadow arm that keeps scoring with the very first version."""
