"""A consumer group: one Faust app whose handlers get whole partition slices.

A process may have several groups. Each has its own offsets, lag and rebalancing, so that slow or failing
handlers of one group do not delay the others. An idle group costs half a megabyte and a fetch every 1.5 s.
"""

import asyncio
import contextlib
import ssl
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Protocol, cast

import faust
from faust.contrib.asgi import faust_app_running
from faust.types import TP
from yarl import URL

from streams.batches import BlockedPartition, Lanes
from streams.faust_internals import BatchApp, BatchConsumer, BatchTopic, BatchTransport, TopicWatcher
from streams.shutdown import STOP_SECONDS
from streams.slices import Handler, Slice, SliceObserver

LetGo = Callable[[], Awaitable[None]]

COMMIT_SECONDS = 0.5
METADATA_SECONDS = 5
"""Maximum age of what a member knows of the topics. Faust assigns no partitions of a topic that a broker did
not know yet, for example just after its start. The next update shows it: by default, after 5 minutes."""
FETCH_BYTES_MAX = 8 << 20
"""Maximum bytes per fetch of a partition: room for a slice of 20,000 records of 400 bytes."""


class Connection(Protocol):
    """The settings that a group needs; see `services.runtime.settings.Settings`."""

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
    def defects_in_a_row_max(self) -> int: ...
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
        watch: TopicWatcher | None = None,
    ) -> None:
        """Prepare; nothing connects before `running`.

        Args:
            connection: The broker, and the bounds that apply if none is given here.
            name: The group's name, after ``driftline.``.
            observer: Callbacks for metrics.
            slice_records_max: Maximum records of one slice.
            in_flight_bytes_max: Maximum bytes fetched and not yet finished.
            watch: Knows the ids of the topics; it is started before `running`. The id of a topic is committed
                with each offset. An offset that was committed with another id is of a topic that was deleted:
                the partition is read from its start. So is, without ids, a partition that ends before its
                committed offset.
        """
        self.name = f"driftline.{name}"
        self._connection = connection
        self._observer = observer
        self._watch = watch
        self._slice_records_max = slice_records_max or connection.slice_records_max
        self._in_flight_bytes_max = in_flight_bytes_max or connection.in_flight_bytes_max
        self._handlers: list[tuple[list[str], Handler, int]] = []
        self._let_go: list[LetGo] = []
        self._faust: BatchApp | None = None

    def slices(
        self, topics: Sequence[str], handler: Handler, let_go: LetGo | None = None, *, at_once: int = 1
    ) -> None:
        """Call a handler with every slice of these topics; see `streams.batches` for the rules.

        Args:
            topics: Their names.
            handler: Handles one slice.
            let_go: Awaited when partitions are revoked, after the slices being handled are finished and
                committed.
            at_once: Maximum slices of one partition that are handled at the same time; if above one, the
                handler awaits `Slice.turn` before it writes.
        """
        self._handlers.append((list(topics), handler, at_once))
        if let_go is not None:
            self._let_go.append(let_go)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Be a member of the group until the block ends; then finish the slices being handled and commit.

        A group without topics has nothing to do, and does not connect.
        """
        if not self._handlers:
            yield
            return
        self._faust = self._build()
        async with faust_app_running(self._faust, stop_timeout=STOP_SECONDS):
            watching = asyncio.create_task(self._faust.watch_topics(), name=f"topics of {self.name}")
            try:
                yield
            finally:
                watching.cancel()

    def blocked(self) -> list[BlockedPartition]:
        """Return the partitions that make no progress."""
        return self._faust.lanes.blocked() if self._faust is not None else []

    def committed(self) -> dict[TP, int]:
        """Return the last committed offset of each partition of this member, 0 if there is none."""
        app = self._faust
        if app is None or not self.assigned:
            return {}
        return cast("BatchConsumer", app.consumer).positions()

    @property
    def assigned(self) -> bool:
        """Whether this member has its assignment, which may be empty."""
        if not self._handlers:
            return True
        app = self._faust
        return app is not None and app.started and not app.rebalancing and app.consumer_generation_id > 0

    @property
    def recreated(self) -> Sequence[str]:
        """The topics that were recreated since the start; the owner has to start another group."""
        return self._faust.recreated if self._faust is not None else ()

    @property
    def failure(self) -> str | None:
        """The error that ended the group, None while it runs."""
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
            datadir=f"{tempfile.gettempdir()}/driftline-faust-{uuid.uuid4().hex[:8]}",  # unused: no tables
            autodiscover=False,
            web_enabled=False,
            topic_disable_leader=True,
            topic_allow_declare=False,
            consumer_auto_offset_reset="earliest",
            broker_max_poll_records=self._slice_records_max,
            consumer_max_fetch_size=FETCH_BYTES_MAX,
            consumer_metadata_max_age_ms=METADATA_SECONDS * 1000,
            broker_commit_interval=COMMIT_SECONDS,
            broker_session_timeout=connection.session_timeout_seconds,
            broker_heartbeat_interval=connection.session_timeout_seconds / 4,
            stream_buffer_maxsize=4,
            stream_wait_empty=False,
        )
        app.callbacks = self._let_go
        app.watch = self._watch
        app.lanes = Lanes(
            self._in_flight_bytes_max,
            self._slice_records_max,
            self._observer,
            defects_in_a_row_max=self._connection.defects_in_a_row_max,
        )
        app.transport = BatchTransport(url, app, loop=None)
        for topics, handler, at_once in self._handlers:
            _register(app, topics, handler, at_once)
        return app


def _register(app: BatchApp, topics: list[str], handler: Handler, at_once: int) -> None:
    source = BatchTopic(app, topics=topics, value_type=bytes, value_serializer="raw")

    async def dispatch(stream: Any) -> None:
        async for event in stream.events():
            message = event.message
            if (
                message.generation_id == app.consumer_generation_id
            ):  # else its partitions may belong to other members
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
