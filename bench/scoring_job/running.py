"""The running scoring process: wait until it is ready, measure the rate of its predictions."""

import contextlib
import sys
import time
import urllib.request

from bench.scoring_job import installation, prediction_times
from bench.scoring_job.installation import MODEL, REQUESTS
from services.runtime.settings import Settings
from streams.topics import predictions

COMMAND = [sys.executable, "-m", "services.operations.cli", "scoring"]
SINK = predictions(MODEL)
SECONDS_MAX = 120.0


def wait_ready(settings: Settings) -> None:
    """Wait until a scoring process has its partitions."""
    deadline = time.monotonic() + SECONDS_MAX
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://{settings.host}:{settings.scoring_port}/health/ready", timeout=2)
            return
        time.sleep(0.1)
    sys.exit("bench: scoring did not become ready")


def drain(settings: Settings, events: int, *, first: int) -> float:
    """Write requests, numbered from ``first`` on; return the rate of their predictions, in events/s."""
    installation.fill(settings, REQUESTS, events, first=first)
    wait_for(settings, first + events)
    return prediction_times.read(settings, SINK, skip=first, wanted=first + events).rate


def wait_for(settings: Settings, wanted: int) -> None:
    """Wait until this many predictions were written."""
    deadline = time.monotonic() + SECONDS_MAX
    while prediction_times.count(settings, SINK) < wanted:
        if time.monotonic() > deadline:
            sys.exit(f"bench: scoring did not make {wanted:,} predictions")
        time.sleep(0.1)
