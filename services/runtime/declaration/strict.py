"""What all sections of a declaration share."""

from pydantic import BaseModel, ConfigDict

FILE = "model.yaml"
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
SECOND_HOURS = 1 / 3600
"""Minimum length of a window or an interval: in milliseconds, as they are counted, it must not be 0."""
DAYS_MAX = 100 * 365
HOURS_MAX = DAYS_MAX * 24
"""Maximum length of a time: in milliseconds and added to any event time, it must fit into 64 bits."""
MONTH_MS = 365 * DAY_MS // 12


class DeclarationError(ValueError):
    """A model.yaml cannot be used. The message has a line per error: ``file:line:column: setting: text``."""


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
