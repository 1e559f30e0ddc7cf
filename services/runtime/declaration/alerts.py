"""The section ``alerts``: which alerts go to which destination."""

from typing import Annotated, get_args, get_type_hints

from pydantic import AfterValidator, Field

from services.runtime.declaration.strict import Strict
from services.runtime.suggestions import suggestion
from streams import records

ALERT_KINDS = (*get_args(get_type_hints(records.DriftAlarm)["kind"]), "retraining", "rollout")
"""The kinds of alarms, retrainings, and changes of the arms."""


def _alert_kind(name: str) -> str:
    if name not in ALERT_KINDS:
        raise ValueError(f"{name!r} is not a kind of alert{suggestion(name, ALERT_KINDS)}")
    return name


AlertKind = Annotated[str, AfterValidator(_alert_kind)]


class AlertRoute(Strict):
    """Which alerts go to one destination."""

    to: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    """Name of the destination. Its URL is a secret and therefore in the settings."""
    kinds: tuple[AlertKind, ...] = ()
    """Kinds of alerts; empty: all."""
    minimum_severity: records.Severity = "warning"
    segments: tuple[str, ...] = ()
    """Only alarms of these segments, as ``origin=EWR``; ``all`` stands for alarms of all predictions."""
    resolved: bool = True
    """Whether a message is sent when an alarm is resolved."""


class Alerts(Strict):
    """Where alerts about alarms, retrainings and changes of the arms are sent."""

    routes: tuple[AlertRoute, ...] = Field((), max_length=20)
    repeat_after_hours: float = Field(24, ge=0.1, le=24 * 31)
    """Wall time after which an open alert is sent again."""
    group_seconds: float = Field(30, ge=0, le=3600)
    """Alerts within this time of the first one are sent as one message."""
