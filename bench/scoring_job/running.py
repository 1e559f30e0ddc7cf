"""The scoring process at work: is it ready, how fast does it work off what is written."""

import contextlib
import sys
import time
import urllib.request

from bench.scoring_job import answers, installation
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
    """Write requests; return the rate of their predictions, all of which follow ``first`` earlier ones."""
    installation.fill(settings, REQUESTS, events, first=first)
    wait_for(settings, first + events)
    return answers.read(settings, SINK, skip=first, wanted=first + events).rate


def wait_for(settings: Settings, wanted: int) -> None:
    """Wait until there are so many predictions."""
    deadline = time.monotonic() + SECONDS_MAX
    while answers.count(settings, SINK) < wanted:
        if time.monotonic() > deadline:
            sys.exit(f"bench: scoring did not make {wanted:,} predictions")
        time.sleep(0.1)
