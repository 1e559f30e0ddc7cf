"""Reads the metrics of the scoring process into the page feed, once per second."""

import asyncio
import ipaddress
import time
from collections import deque

import httpx

from services.dashboard import scoring_metrics
from services.dashboard.page_feed import PageFeed, ScoringPulse
from services.runtime.settings import Settings

POLL_SECONDS = 1.0
POLL_TIMEOUT_SECONDS = 2.0

_ALL_ADDRESSES = {str(ipaddress.IPv4Address(0)), str(ipaddress.IPv6Address(0)), ""}
"""Hosts by which a server listens on all addresses."""


def metrics_url(settings: Settings) -> str:
    """Return the URL of the scoring process's metrics."""
    base = settings.scoring_url or f"http://{reachable(settings.host)}:{settings.scoring_port}"
    return f"{base.rstrip('/')}/metrics"


def reachable(host: str) -> str:
    """Return the address to connect to for an address to listen on."""
    if host in _ALL_ADDRESSES:
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


async def poll(url: str, feed: PageFeed) -> None:
    """Read the metrics once per second until cancelled; a process that is down is a status, not an error."""
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
    return ScoringPulse(status="up", lag_records=scrape.lag_records, waiting=scrape.waiting, models=summary)
