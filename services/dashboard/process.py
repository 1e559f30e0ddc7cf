"""The dashboard's process: reads three topics and the scoring process's metrics, serves the page."""

import asyncio
import signal
import threading
import time
from collections import deque

import httpx
import structlog

from services.dashboard import consumer, page, scoring_metrics
from services.dashboard.page_feed import Declared, Feed, ScoringPulse
from services.runtime import declaration_file
from services.runtime.declaration import DeclarationError, learning
from services.runtime.logs import configure_logging
from services.runtime.settings import Settings
from services.runtime.web import server

POLL_SECONDS = 1.0
POLL_TIMEOUT_SECONDS = 2.0

_log = structlog.get_logger()


def run() -> None:
    """Serve the live page until SIGINT or SIGTERM."""
    settings = Settings()
    configure_logging("dashboard", settings.log_level)
    asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    feed = Feed(settings.broker, _declared(settings))
    stop_reading, stop = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    arguments = (settings, feed, stop_reading)
    reader = threading.Thread(target=consumer.follow, args=arguments, name="kafka", daemon=True)
    reader.start()
    poller = asyncio.create_task(_poll_scoring(scoring_metrics_url(settings), feed))
    async with server.serve_in_loop(page.application(feed, settings), settings.host, settings.dashboard_port):
        _log.info("dashboard.started", url=f"http://{_reachable(settings.host)}:{settings.dashboard_port}/")
        await stop.wait()
        feed.closed = True
        stop_reading.set()
        poller.cancel()
    await asyncio.to_thread(reader.join, 3)
    _log.info("dashboard.stopped")


def scoring_metrics_url(settings: Settings) -> str:
    """Return where the metrics of the scoring process are."""
    base = settings.scoring_url or f"http://{_reachable(settings.host)}:{settings.scoring_port}"
    return f"{base.rstrip('/')}/metrics"


def _reachable(host: str) -> str:
    """Return an address to connect to, for one to listen on."""
    if host in {"0.0.0.0", "::", ""}:  # noqa: S104  # compared with, not bound to
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _declared(settings: Settings) -> dict[str, Declared]:
    """Read the declarations; the page goes without them where they cannot be read."""
    try:
        declarations = declaration_file.load_all(settings.models)
    except DeclarationError as error:
        _log.warning("dashboard.declarations_unreadable", error=str(error))
        return {}
    return {
        name: Declared(
            owner=declaration.owner,
            window_hours=declaration.monitoring.window_hours,
            psi_threshold=declaration.monitoring.psi_threshold,
            loss_tolerance=declaration.monitoring.loss_tolerance,
            learns=learning is not None,
            shadow=declaration.rollout.keep_first_as_shadow,
        )
        for name, declaration in declarations.items()
    }


async def _poll_scoring(url: str, feed: Feed) -> None:
    """Read the metrics about once a second, for ever; a process that is down is a state, not an error."""
    history: deque[scoring_metrics.Scrape] = deque(maxlen=scoring_metrics.HISTORY_SCRAPES_MAX)
    async with httpx.AsyncClient(timeout=POLL_TIMEOUT_SECONDS, trust_env=False) as client:
        while True:
            feed.scoring = await _scrape(client, url, history)
            await asyncio.sleep(POLL_SECONDS)


async def _scrape(
    client: httpx.AsyncClient, url: str, history: deque[scoring_metrics.Scrape]
) -> ScoringPulse:
    try:
        response = await client.get(url)
        response.raise_for_status()
        previous = history[-1] if history else None
        wall_ms = round(time.time() * 1000)
        scrape = scoring_metrics.parse(response.text, time.monotonic(), wall_ms, previous)
    except (httpx.HTTPError, scoring_metrics.MetricsError) as error:
        history.clear()  # no rate over a gap
        return ScoringPulse(status="down", error=f"{url}: {type(error).__name__}")
    history.append(scrape)
    summary = scoring_metrics.summarize(history)
    return ScoringPulse(status="up", lag_records=scrape.lag_records, models=summary)
