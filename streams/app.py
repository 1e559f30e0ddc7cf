"""The Faust app: agents on slices, a producer, and a life from start to stop within bounds."""

import asyncio
import contextlib
import gc
import os
import signal
import ssl
import threading
import uuid
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import faust
import structlog
import uvloop
from faust.contrib.asgi import faust_app_running
from faust.types import TP
from yarl import URL

from streams.batches import BatchConsumer, BatchTopic, BatchTransport, Handler, Lanes, Observer, Slice
from streams.producer import BatchProducer

log = structlog.get_logger()

LetGo = Callable[[], Awaitable[None]]

COMMIT_SECONDS = 0.5
STOP_SECONDS = 8.0
"""After this, a stop is forced: within the 10 s that we promise, and nothing uncommitted is lost by it."""
FETCH_BYTES_MAX = 8 << 20
"""Of one partition at once: room for a slice of 20,000 records of 400 bytes."""
GC_CONTAINERS = 100_000
"""Containers made and not yet freed from which the garbage collector looks for cycles among them."""


class Connection(Protocol):
    """What the app needs of the settings; see `services.settings.Settings`."""

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


class App:
    """One process: handlers by topic, a shared producer, one event loop."""

    def __init__(
        self, connection: Connection, service: str, observer: Observer, slice_records_max: int | None = None
    ) -> None:
        """Prepare; nothing connects before `run`. Slices are as large as the connection says, or as given."""
        self.service = service
        self.producer = BatchProducer(connection.kafka_options())
        self._connection = connection
        self._observer = observer
        self._slice_records_max = slice_records_max or connection.slice_records_max
        self._handlers: list[tuple[list[str], Handler]] = []
        self._let_go: list[LetGo] = []
        self._faust: _BatchApp | None = None

    def slices(self, topics: Sequence[str], handler: Handler, let_go: LetGo | None = None) -> None:
        """Hand every slice of these topics to a handler; see `streams.batches` for the rules.

        Args:
            topics: Their names.
            handler: Of the slices.
            let_go: Awaited when partitions leave, once the slices in work are finished and committed.
        """
        self._handlers.append((list(topics), handler))
        if let_go is not None:
            self._let_go.append(let_go)

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

    def run(self, *during: contextlib.AbstractAsyncContextManager[Any]) -> None:
        """Run until SIGINT or SIGTERM, with these contexts around the work; exit with 1 after a crash."""
        crashed = uvloop.run(self._run(during))
        if crashed:
            raise SystemExit(1)

    async def _run(self, during: Sequence[contextlib.AbstractAsyncContextManager[Any]]) -> bool:
        stopping = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        async with contextlib.AsyncExitStack() as stack:
            await self.producer.start()
            stack.push_async_callback(self.producer.stop)
            for context in during:
                await stack.enter_async_context(context)
            self._faust = self._build()
            await stack.enter_async_context(faust_app_running(self._faust, stop_timeout=STOP_SECONDS))
            _spare_the_heap()
            log.info("process.started")
            crashed = await self._wait(stopping)
            _exit_after(STOP_SECONDS + 1, int(crashed))
        return crashed

    async def _wait(self, stopping: asyncio.Event) -> bool:
        app = self._faust
        assert app is not None
        while not stopping.is_set():
            if app.crashed or app.should_stop:
                log.error("process.crashed", error=repr(app.crash_reason))
                return True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), 0.5)
        log.info("process.stopping")
        return False

    def _build(self) -> "_BatchApp":
        connection = self._connection
        url = [URL(f"kafka://{address}") for address in connection.broker.split(",")]
        app = _BatchApp(
            f"driftline.{self.service}",
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
        app.lanes = Lanes(connection.in_flight_bytes_max, self._observer)
        app.transport = BatchTransport(url, app, loop=None)
        for topics, handler in self._handlers:
            _register(app, topics, handler)
        return app


class _BatchApp(faust.App):
    lanes: Lanes
    callbacks: Sequence[LetGo]

    async def let_go(self) -> None:
        await asyncio.gather(*(callback() for callback in self.callbacks))

    def _create_directories(self) -> None:
        """Create none: there are no tables."""


def _register(app: _BatchApp, topics: list[str], handler: Handler) -> None:
    source = BatchTopic(app, topics=topics, value_type=bytes, value_serializer="raw")

    async def dispatch(stream: Any) -> None:
        async for event in stream.events():
            message = event.message
            if message.generation_id == app.consumer_generation_id:  # else its partition may be another's
                slice_: Slice = event.value
                app.lanes.put(message.tp, slice_, handler)

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


def _spare_the_heap() -> None:
    """Keep the garbage collector away from what stays, and let it rest while a slice is worked on.

    A slice of thousands of records makes some ten thousand containers, all of which die by reference
    counting. With Python's default of a collection every 700, each of them walked over all that the
    imports had left: that took a third of the time (`bench/scoring.py`).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_CONTAINERS, 20, 100)


def _exit_after(seconds: float, code: int) -> None:
    """Bound the shutdown: Faust has been seen to wait for ever for a broker that is gone."""
    timer = threading.Timer(seconds, os._exit, [code])
    timer.daemon = True
    timer.start()
