"""The requests that have no result: which may begin now, and why the others wait. Pure.

Several models are trained at once, each by one process. Requests of one model begin in the order of their
topic. A request that cannot begin is tried again later and blocks no other model.
"""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from streams.records import RetrainingRequested

PAUSE_SECONDS_MIN = 0.2
PAUSE_SECONDS_MAX = 300.0
NAMED_MAX = 10
"""Maximum requests of a model that the readiness names; the first ones."""


@dataclasses.dataclass
class QueuedRequest:
    """One request."""

    offset: int
    request: RetrainingRequested
    due_seconds: float = 0.0
    """Time from which it may be tried."""
    pauses: int = 0
    """How often it was postponed for the same reason."""
    reason: str = ""
    """Why it waits; empty if it does not."""
    run: Any = None
    """Its run folder, once it is prepared."""


class RequestQueue:
    """All open requests, by the offset of their record."""

    def __init__(self) -> None:
        """Start empty."""
        self._open: dict[int, QueuedRequest] = {}

    def clear(self) -> None:
        """Forget all: a session reads them again."""
        self._open.clear()

    def add(self, offset: int, request: RetrainingRequested) -> None:
        """Take a request; one whose id is open already has the result of that one."""
        if all(each.request.request_id != request.request_id for each in self._open.values()):
            self._open[offset] = QueuedRequest(offset, request)

    def due(self, now_seconds: float, busy: Collection[str]) -> list[QueuedRequest]:
        """Return the first request of each model that trains nothing, if it is due."""
        first: dict[str, QueuedRequest] = {}
        for queued in list(self._open.values()):
            first.setdefault(queued.request.model, queued)
        return [
            queued
            for model, queued in first.items()
            if model not in busy and queued.due_seconds <= now_seconds
        ]

    def postpone(self, queued: QueuedRequest, reason: str, now_seconds: float) -> bool:
        """Let a request wait, longer each time; return whether the reason is a new one."""
        is_new = queued.reason != reason
        queued.pauses = 0 if is_new else queued.pauses + 1
        queued.reason = reason
        queued.due_seconds = now_seconds + min(PAUSE_SECONDS_MIN * 2.0**queued.pauses, PAUSE_SECONDS_MAX)
        return is_new

    def wake(self) -> None:
        """Let all requests be tried at once, with what is declared now."""
        for queued in self._open.values():
            queued.due_seconds, queued.pauses, queued.run = 0.0, 0, None

    def remove(self, queued: QueuedRequest) -> None:
        """Remove a request that has a result."""
        self._open.pop(queued.offset, None)

    def position(self, read_to: int) -> int:
        """Return the offset to commit, given the next one to read."""
        return min(self._open, default=read_to)

    def detail(self) -> Mapping[str, object]:
        """Return what waits and why, by model, for the readiness of the process."""
        waiting: dict[str, list[str]] = {}
        for queued in list(self._open.values()):
            named = waiting.setdefault(queued.request.model, []) if queued.reason else []
            if queued.reason and len(named) < NAMED_MAX:
                named.append(f"{queued.request.request_id}: {queued.reason}")
        return {"retrainings_waiting": dict(sorted(waiting.items()))} if waiting else {}
