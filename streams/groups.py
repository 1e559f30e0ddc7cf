"""A consumer group: one Faust app whose handlers get whole partition slices.

A process may have several. Each has its own offsets, lag and rebalancing, so that what one of them
handles slowly, or not at all, holds up nothing of the others. An idle group costs half a megabyte and a
fetch every 1.5 seconds.
"""

import contextlib
import os
import ssl
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import faust
from faust.contrib.asgi import faust_app_running
from faust.types import TP
from yarl import URL

from streams.batches import Handler, Lanes, Slice, SliceObserver
from streams.faust_internals import BatchApp, BatchConsumer, BatchTopic, BatchTransport
from streams.stopping import STOP_SECONDS

LetGo = Callable[[], Awaitable[None]]

COMMIT_SECONDS = 0.5
FETCH_BYTES_MAX = 8 << 20
"""Of one partition at once: room for a slice of 20,000 records of 400 bytes."""


class Connection(Protocol):
    """What a group needs of the settings; see `services.runtime.settings.Settings`."""

    @property
    def broker(self) -> str: ...
    @property
    def security_protocol(self) -> str: ...
    @property
    def sasl_mechanism(self) -> str: ...
    @property
    def sasl_username(self) -> str: ...
    @property
    def sasl_password(self) -> Any: ...
    @property
    def slice_records_max(self) -> int: ...
    @property
    def in_flight_bytes_max(self) -> int: ...
    @property
    def session_timeout_seconds(self) -> float: ...
    def ssl_context(self) -> ssl.SSLContext | None: ...
    def kafka_options(self) -> dict[str, Any]: ...


class Group:
    """One consumer group of a process."""

    def __init__(
        self,
        connection: Connection,
        name: str,
        observer: SliceObserver,
        *,
        slice_records_max: int | None = None,
        in_flight_bytes_max: int | None = None,
    ) -> None:
        """Prepare; nothing connects before `running`.

        Args:
            connection: Where the broker is, and the bounds that hold where none is given here.
            name: Of the group, behind ``driftline.``.
            observer: Where the engine reports what it does.
            slice_records_max: Records of one partition handed on at once.
            in_flight_bytes_max: Bytes fetched and not yet finished.
        """
        self.name = f"driftline.{name}"
        self._connection = connection
        self._observer = observer
        self._slice_records_max = slice_records_max or connection.slice_records_max
        self._in_flight_bytes_max = in_flight_bytes_max or connection.in_flight_bytes_max
        self._handlers: list[tuple[list[str], Handler, int]] = []
        self._let_go: list[LetGo] = []
        self._faust: BatchApp | None = None

    def slices(
        self, topics: Sequence[str], handler: Handler, let_go: LetGo | None = None, *, at_once: int = 1
    ) -> None:
        """Hand every slice of these topics to a handler; see `streams.batches` for the rules.

        Args:
            topics: Their names.
            handler: Of the slices.
            let_go: Awaited when partitions leave, once the slices in work are finished and committed.
            at_once: Slices of one partition given to the handler before the first is finished; above one, it
                awaits `Slice.turn` before it writes.
        """
        self._handlers.append((list(topics), handler, at_once))
        if let_go is not None:
            self._let_go.append(let_go)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Be a member of the group until the block ends; then finish the slices in work and commit."""
        self._faust = self._build()
        async with faust_app_running(self._faust, stop_timeout=STOP_SECONDS):
            yield

    def committed(self) -> dict[TP, int]:
        """Return for each partition of this member the offset that was committed last, 0 for none."""
        app = self._faust
        if app is None or not self.assigned:
            return {}
        return cast("BatchConsumer", app.consumer).positions()

    @property
    def assigned(self) -> bool:
        """Tell whether this member of the group has got its partitions (or knows that it gets none)."""
        app = self._faust
        return app is not None and app.started and not app.rebalancing and app.consumer_generation_id > 0

    @property
    def failure(self) -> str | None:
        """Tell why the group has ended by itself, None while it runs."""
        app = self._faust
        if app is None or not (app.crashed or app.should_stop):
            return None
        return repr(app.crash_reason)

    def _build(self) -> BatchApp:
        connection = self._connection
        url = [URL(f"kafka://{address}") for address in connection.broker.split(",")]
        app = BatchApp(
            self.name,
            broker=url,
            broker_credentials=_credentials(connection),
            store="memory://",
            datadir=str(Path(os.environ.get("TMPDIR", "/tmp")) / f"driftline-faust-{uuid.uuid4().hex[:8]}"),  # noqa: S108  # unused: no tables
            autodiscover=False,
            web_enabled=False,
            topic_disable_leader=True,
            topic_allow_declare=False,
            consumer_auto_offset_reset="earliest",
            broker_max_poll_records=self._slice_records_max,
            consumer_max_fetch_size=FETCH_BYTES_MAX,
            broker_commit_interval=COMMIT_SECONDS,
            broker_session_timeout=connection.session_timeout_seconds,
            broker_heartbeat_interval=connection.session_timeout_seconds / 4,
            stream_buffer_maxsize=4,
            stream_wait_empty=False,
        )
        app.callbacks = self._let_go
        app.lanes = Lanes(self._in_flight_bytes_max, self._slice_records_max, self._observer)
        app.transport = BatchTransport(url, app, loop=None)
        for topics, handler, at_once in self._handlers:
            _register(app, topics, handler, at_once)
        return app


def _register(app: BatchApp, topics: list[str], handler: Handler, at_once: int) -> None:
    source = BatchTopic(app, topics=topics, value_type=bytes, value_serializer="raw")

    async def dispatch(stream: Any) -> None:
        async for event in stream.events():
            message = event.message
            if message.generation_id == app.consumer_generation_id:  # else its partitions may be others'
                slices: Sequence[Slice] = event.value
                for slice_ in slices:
                    app.lanes.put(TP(slice_.topic, slice_.partition), slice_, handler, at_once)

    app.agent(source, name=f"slices-{topics[0]}")(dispatch)


def _credentials(connection: Connection) -> Any:
    context = connection.ssl_context()
    if connection.security_protocol.startswith("SASL"):
        return faust.SASLCredentials(
            mechanism=connection.sasl_mechanism,
            username=connection.sasl_username,
            password=connection.sasl_password.get_secret_value(),
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context else None
