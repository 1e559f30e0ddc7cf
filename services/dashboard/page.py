"""The page and its API.

``GET /``
    The page. It loads only files of this process; the content security policy allows nothing else, and no
    script or style inside the document.
``GET /api/state``
    The complete state as one JSON document, the same as the first event of the stream:
    ``cursor`` (revision of the document), ``bounds`` (how much history is kept), ``declared`` (by model:
    owner, window, thresholds), ``pulse`` (wall time; ``kafka``: status, records read and skipped;
    ``scoring``: status, lag, and by model the predictions, rate, p50 and p99), and ``models``, by name:
    ``features``, ``arms`` (which versions score), and in event time ``windows``, ``cohorts``, ``alarms``,
    ``retrainings``, ``promotions``, and by version ``references`` (the values of training). The structs in
    ``state.py`` and ``page_feed.py`` declare the fields; times are milliseconds since the epoch in
    UTC. Lists in a window are in the order of ``features``.
``GET /reports/{model}/{window}``
    The report of one window as a separate page, read from the drift topic. The window is ``latest``, an
    event time inside it in milliseconds, or a day such as 2013-07-03.
``GET /models/{model}/versions/{version}/card``
    The stored card of a version as a separate page; with ``?format=markdown`` as Markdown.
``GET /events``
    Server-sent events: first ``snapshot`` (that document), then ``delta`` (``cursor``, and ``models`` with
    only the changes; an item replaces the one with the same id) at most four times per second, and
    ``pulse`` every second. With the header ``Last-Event-ID`` of this process, a delta replaces the
    snapshot. 503 if too many pages are open.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import jinja2
import msgspec
from kafka.errors import KafkaError
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.dashboard import card_page
from services.dashboard.page_feed import PageFeed
from services.monitoring.reports import html_page as report_page
from services.monitoring.reports import topic_reader
from services.monitoring.reports.history import NoWindowError
from services.monitoring.reports.topic_reader import ReportsError
from services.runtime.declaration import ModelDeclaration
from services.runtime.declaration_file import DeclarationFolder
from services.runtime.settings import Settings
from services.runtime.times import time_ms
from services.runtime.web import server

STREAMS_MAX = 64
"""Maximum open event streams: more than there are people, and too few for one client to block the others."""
REPORTS_MAX = 2
"""Maximum reports made at the same time; each reads the drift topic."""
SEND_TIMEOUT_SECONDS = 30.0
"""A page that reads nothing for this time is disconnected; it reconnects by itself and gets a snapshot."""

_FOLDER = Path(__file__).parent
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class SecurityHeaders:
    """Adds the security headers to every response; plain ASGI, so that streams are not buffered."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-cache")  # revalidate: the ETag makes that cheap
            await send(message)

        await self.app(scope, receive, with_headers)


class Page:
    """The handlers of all paths."""

    def __init__(self, feed: PageFeed, settings: Settings) -> None:
        """Compile the template."""
        self.feed = feed
        self.settings = settings
        self.reading = asyncio.Semaphore(REPORTS_MAX)
        self.streams_open = 0
        loader = jinja2.FileSystemLoader(_FOLDER / "templates")
        environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
        self.template = environment.get_template("page.html")

    async def index(self, _: Request) -> Response:
        """Serve the page; its data arrive with the stream."""
        return HTMLResponse(self.template.render(broker=self.feed.kafka.broker))

    async def state(self, _: Request) -> Response:
        """Serve the complete state."""
        return Response(msgspec.json.encode(self.feed.snapshot()), media_type="application/json")

    async def events(self, request: Request) -> Response:
        """Serve the stream of events."""
        if self.streams_open >= STREAMS_MAX:
            return JSONResponse({"error": f"{STREAMS_MAX} pages are open already"}, status_code=503)
        last_cursor = request.headers.get("last-event-id", "")
        return EventSourceResponse(self._counted(last_cursor), send_timeout=SEND_TIMEOUT_SECONDS)

    async def report(self, request: Request) -> Response:
        """Serve the report of a window."""
        model, window = request.path_params["model"], request.path_params["window"]
        try:
            async with self.reading:
                text = await asyncio.to_thread(_report, self.settings, model, window)
        except (NoWindowError, ValueError) as error:
            return JSONResponse({"error": f"{model}: {error}"}, status_code=404)
        except (ReportsError, KafkaError) as error:
            return JSONResponse({"error": f"the drift topic cannot be read: {error}"}, status_code=503)
        return HTMLResponse(text, headers={"content-security-policy": report_page.CONTENT_SECURITY_POLICY})

    async def _counted(self, last_cursor: str) -> AsyncIterator[ServerSentEvent]:
        self.streams_open += 1
        try:
            async for event in self.feed.events(last_cursor):
                yield event
        finally:
            self.streams_open -= 1


def _report(settings: Settings, model: str, window: str) -> str:
    at_ms = None if window == "latest" else int(window) if window.isdecimal() else time_ms(window)
    declared = model_declarations(settings).get(model)
    return report_page.as_html(topic_reader.read(settings, model).window(at_ms), declared)


def model_declarations(settings: Settings) -> Mapping[str, ModelDeclaration]:
    """Return the declarations without those that cannot be read, because the report does not need them."""
    return DeclarationFolder(settings.models).valid


def application(feed: PageFeed, settings: Settings) -> ASGIApp:
    """Return the dashboard's application; it is ready when the topics are read up to their end at start."""
    page = Page(feed, settings)
    app = server.application(
        lambda: _not_ready(feed),
        [
            Route("/", page.index),
            Route("/api/state", page.state),
            Route("/events", page.events),
            Route("/reports/{model}/{window}", page.report),
            card_page.route(settings),
            Mount("/static", StaticFiles(directory=_FOLDER / "static")),
        ],
    )
    return SecurityHeaders(app)


def _not_ready(feed: PageFeed) -> str | None:
    kafka = feed.kafka
    if kafka.status == "live":
        return None
    if kafka.status == "lost":
        return f"Kafka at {kafka.broker} does not answer ({kafka.error})"
    return f"reading the topics from Kafka at {kafka.broker}: {kafka.records_read} records so far"
