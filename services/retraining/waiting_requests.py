"""Requests for retraining that wait until the declaration of their model is valid again.

The committed offset stays at the first of them. When a declaration changes, the next session begins there,
and skips the requests after it that have a result.
"""

from collections.abc import Mapping

import structlog

from streams.records import RetrainingRequested

NAMED_MAX = 10
"""Maximum requests of a model that the readiness names; the first ones."""

_log = structlog.get_logger()


class WaitingRequests:
    """The requests that wait in the present session; the object lives as long as the process."""

    def __init__(self) -> None:
        """Start without any."""
        self.first_offset: int | None = None
        """The offset of the first request that waits."""
        self._reasons: dict[str, dict[str, str]] = {}
        """By model and request."""
        self._logged: dict[str, str] = {}

    def begin(self) -> None:
        """Forget them: a session reads them again."""
        self.first_offset = None
        self._reasons = {}

    def add(self, offset: int, request: RetrainingRequested, reason: str) -> None:
        """Let a request wait; offsets come in order. A reason is logged once."""
        if self.first_offset is None:
            self.first_offset = offset
        of_model = self._reasons.setdefault(request.model, {})
        if len(of_model) < NAMED_MAX:
            of_model[request.request_id] = reason
        if self._logged.get(request.model) != reason:
            self._logged[request.model] = reason
            _log.warning(
                "retraining.waits", model=request.model, request_id=request.request_id, reason=reason
            )

    def position(self, offset: int) -> int:
        """Return the offset to commit when everything before ``offset`` is handled or waits."""
        return offset if self.first_offset is None else min(offset, self.first_offset)

    def detail(self) -> Mapping[str, object]:
        """Return what waits and why, by model, for the readiness of the process."""
        waiting = {
            model: [f"{request_id}: {reason}" for request_id, reason in found.copy().items()]
            for model, found in sorted(self._reasons.copy().items())
        }
        return {"retrainings_waiting": waiting} if waiting else {}
