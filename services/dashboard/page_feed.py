"""The documents that pages receive: snapshots, deltas, and the pulse of the processes.

One thread reads Kafka and calls `PageFeed.apply`; everything else runs in the web server's loop. The state is
immutable and replaced as a whole, so neither side needs a lock.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, Literal

import msgspec
from sse_starlette import ServerSentEvent

from services.dashboard import state
from services.dashboard.scoring_metrics import ScoringPace

DELTA_SECONDS = 0.25
"""Interval of deltas; a replay closes many windows per second, and four deltas per second are enough."""
PULSE_SECONDS = 1.0
RETRY_MS = 2000


class Bounds(msgspec.Struct, kw_only=True, frozen=True):
    """How much history a page keeps; the server keeps the same."""

    models: int = state.MODELS_MAX
    features: int = state.FEATURES_MAX
    windows: int = state.WINDOWS_MAX
    cohorts: int = state.WINDOWS_MAX
    alarms: int = state.ALARMS_MAX
    retrainings: int = state.RETRAININGS_MAX
    promotions: int = state.PROMOTIONS_MAX
    references: int = state.REFERENCES_MAX


class Declared(msgspec.Struct, kw_only=True, frozen=True):
    """The keys of model.yaml that the page shows."""

    owner: str
    window_hours: float
    psi_threshold: float
    loss_tolerance: float
    learns: bool = False
    """Whether the model learns online; the page then shows another model first."""
    shadow: str | None
    """The shadow arm under which the first version keeps scoring."""


class KafkaPulse(msgspec.Struct, kw_only=True, frozen=True):
    """Status of the connection to Kafka."""

    status: Literal["connecting", "reading", "live", "lost"]
    """``reading``: not yet at the end offsets seen at the start."""
    broker: str
    error: str = ""
    records_read: int = 0
    records_skipped: int = 0
    """Records that could not be decoded."""


class ScoringPulse(msgspec.Struct, kw_only=True, frozen=True):
    """Status of the scoring process."""

    status: Literal["unknown", "up", "down"] = "unknown"
    error: str = ""
    lag_records: int | None = None
    waiting: Mapping[str, int] = {}
    """Requests that have waited for their features for more than a second, by model."""
    models: dict[str, ScoringPace] = {}


class Pulse(msgspec.Struct, kw_only=True, frozen=True):
    """Values that change every second; always sent completely."""

    wall_time_ms: int
    kafka: KafkaPulse
    scoring: ScoringPulse


class Delta(msgspec.Struct, kw_only=True, frozen=True):
    """Changes since the previous cursor."""

    cursor: str
    models: dict[str, state.ModelChanges]


class PageSnapshot(msgspec.Struct, kw_only=True, frozen=True):
    """Everything that a page needs to start."""

    cursor: str
    bounds: Bounds
    declared: Mapping[str, Declared]
    pulse: Pulse
    models: dict[str, state.ModelChanges]


class PageFeed:
    """The latest state and pulse. ``epoch`` separates this process's cursors from those of earlier ones."""

    def __init__(self, broker: str, declared: Mapping[str, Declared] | None = None) -> None:
        """Start empty."""
        self.declared = dict(declared or {})
        self.epoch = secrets.token_hex(4)
        self.state = state.DashboardState()
        self.kafka = KafkaPulse(status="connecting", broker=broker)
        self.scoring = ScoringPulse()
        self.closed = False
        """Set at shutdown; the event streams then end."""

    def apply(self, record: state.Record) -> None:
        """Apply a record. Only one thread may call this."""
        self.state = state.reduce(self.state, record)

    def update_kafka(self, **changes: Any) -> None:
        """Change fields of the Kafka pulse. Only the thread that reads Kafka may call this."""
        self.kafka = msgspec.structs.replace(self.kafka, **changes)

    def pulse(self) -> Pulse:
        """Return the present pulse."""
        return Pulse(wall_time_ms=round(time.time() * 1000), kafka=self.kafka, scoring=self.scoring)

    def snapshot(self) -> PageSnapshot:
        """Return everything."""
        current = self.state
        return PageSnapshot(
            cursor=self._cursor(current),
            bounds=Bounds(),
            declared=self.declared,
            pulse=self.pulse(),
            models=state.changes_since(current, 0),
        )

    def delta(self, revision: int) -> tuple[Delta, int]:
        """Return the changes after a revision, and the revision after them."""
        current = self.state
        changes = state.changes_since(current, revision)
        return Delta(cursor=self._cursor(current), models=changes), current.revision

    def revision_of(self, cursor: str) -> int | None:
        """Return the revision of a cursor; None if another process made it."""
        epoch, _, revision = cursor.partition(".")
        if epoch != self.epoch or not revision.isdecimal() or int(revision) > self.state.revision:
            return None
        return int(revision)

    async def events(self, last_cursor: str = "") -> AsyncIterator[ServerSentEvent]:
        """Yield a snapshot, then deltas and the pulse until the feed closes.

        A page that reconnects with a cursor of this process gets all missed changes as one delta; any other
        page gets a snapshot. Events: ``snapshot``, ``delta``, ``pulse``; the ids are cursors.
        """
        revision = self.revision_of(last_cursor)
        if revision is None:
            snapshot = self.snapshot()
            revision = self.revision_of(snapshot.cursor) or 0
            yield _event("snapshot", snapshot, snapshot.cursor)
        pulse_at_seconds = 0.0
        while True:
            if self.state.revision > revision:
                delta, revision = self.delta(revision)
                yield _event("delta", delta, delta.cursor)
            if time.monotonic() >= pulse_at_seconds:
                pulse_at_seconds = time.monotonic() + PULSE_SECONDS
                yield _event("pulse", self.pulse())
            if self.closed:
                return
            await asyncio.sleep(DELTA_SECONDS)

    def _cursor(self, current: state.DashboardState) -> str:
        return f"{self.epoch}.{current.revision}"


def _event(name: str, document: msgspec.Struct, cursor: str | None = None) -> ServerSentEvent:
    data = msgspec.json.encode(document).decode()
    return ServerSentEvent(data=data, event=name, id=cursor, retry=RETRY_MS)
