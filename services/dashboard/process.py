"""The dashboard's process: reads three topics and the scoring process's metrics, serves the page."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator

import structlog

from services.dashboard import consumer, page, scoring_poller
from services.dashboard.page_feed import Declared, PageFeed
from services.runtime import async_process
from services.runtime.declaration_file import DeclarationFolder
from services.runtime.logs import configure_logging
from services.runtime.settings import Settings
from services.runtime.supervised_task import SupervisedTask
from services.runtime.web import server

READER_SECONDS_MAX = 3.0
"""Maximum time for the consumer's thread to end."""

REFRESH_SECONDS = 2.0
"""Time between two looks at the declarations."""

_log = structlog.get_logger()


def run() -> None:
    """Serve the live page until SIGINT or SIGTERM."""
    settings = Settings()
    configure_logging("dashboard", settings.log_level)
    folder = DeclarationFolder(settings.models)
    feed = PageFeed(settings.broker, page_declarations(folder))
    async_process.run(
        _reading(settings, feed),
        server.serve_in_loop(page.application(feed, settings), settings.host, settings.dashboard_port),
        _polling(settings, feed),
        _following(folder, feed),
        _open(settings, feed),
    )


@contextlib.asynccontextmanager
async def _reading(settings: Settings, feed: PageFeed) -> AsyncIterator[None]:
    """Read the topics in a thread until the block ends."""
    stop = threading.Event()
    reader = threading.Thread(target=consumer.follow, args=(settings, feed, stop), name="kafka", daemon=True)
    reader.start()
    try:
        yield
    finally:
        stop.set()
        await asyncio.to_thread(reader.join, READER_SECONDS_MAX)
        _log.info("dashboard.stopped")


@contextlib.asynccontextmanager
async def _polling(settings: Settings, feed: PageFeed) -> AsyncIterator[None]:
    """Read the metrics of scoring until the block ends."""
    url = scoring_poller.metrics_url(settings)
    async with SupervisedTask("scoring poller", lambda: scoring_poller.poll(url, feed)).running():
        yield


@contextlib.asynccontextmanager
async def _following(folder: DeclarationFolder, feed: PageFeed) -> AsyncIterator[None]:
    """Read declarations that change until the block ends; a page shows them when it is loaded again."""

    async def follow() -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            if await asyncio.to_thread(folder.refresh):
                feed.declared = page_declarations(folder)

    async with SupervisedTask("declarations", follow).running():
        yield


@contextlib.asynccontextmanager
async def _open(settings: Settings, feed: PageFeed) -> AsyncIterator[None]:
    """Close the feed when the block ends, before the server waits for the pages that follow it."""
    host = scoring_poller.reachable(settings.host)
    _log.info("dashboard.started", url=f"http://{host}:{settings.dashboard_port}/")
    try:
        yield
    finally:
        feed.closed = True


def page_declarations(folder: DeclarationFolder) -> dict[str, Declared]:
    """Return what the page shows of declarations; of an invalid model.yaml, of its last valid content."""
    for name, fault in folder.faults.items():
        _log.warning("dashboard.declaration_invalid", model=name, error=fault)
    return {
        name: Declared(
            owner=declaration.owner,
            window_hours=declaration.monitoring.window_hours,
            psi_threshold=declaration.monitoring.psi_threshold,
            loss_tolerance=declaration.monitoring.loss_tolerance,
            learns=declaration.learning is not None,
            shadow=declaration.rollout.keep_first_as_shadow,
        )
        for name, declaration in folder.valid.items()
    }
