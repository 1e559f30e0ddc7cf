"""Write rate into the online store: the features process on Kafka against Feast's own two write methods.

The same ten features of the same users go to the same Valkey. Our events come as JSON from Kafka, are checked
against their schema, written with their versions in one atomic step, logged, and their offsets are stored.
Feast gets data frames of 1,000 rows that are already in memory. The writers take turns; the result is the
median of the turns. During Feast's turn our process is paused, with its events in the broker.

The benchmark also measures the CPU time per event and per row of a windowed view, for few and many events and
few and many users. Events of one user that are read together make one row; so with as many users as events,
each event is written, versioned and logged on its own.
"""

import contextlib
import datetime as dt
import os
import random
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from bench import processes
from bench.report import Figures
from bench.scoring_job import installation
from bench.scoring_job.installation import NAMES, PARTITIONS
from services.feature_store import repository
from services.operations.local_servers import ports
from services.runtime.settings import Settings

if TYPE_CHECKING:
    from streams.producer import Record

JOB = Path(__file__).parent / "writing_job"
OURS = "driftline"
UPDATES, PAYMENTS = "bench.updates", "bench.payments"
USERS = 10_000
TURNS = 5
EVENTS, FRAMES, FRAME_ROWS = 200_000, 5, 1000
"""Our events per turn, and the frames per turn of each of Feast's methods."""
SIZES = ((10_000, 1000), (100_000, 1000), (1_000_000, 1000), (100_000, 100_000))
"""Events and users of each cost measurement."""
START = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
PAYMENT_EVERY = dt.timedelta(hours=1)
"""Time between two payments of a user; after three days a user's state has its full size."""
SECONDS_MAX = 180.0
"""Timeout of each wait."""
POLL_SECONDS = 0.05
SESSION_SECONDS = 60
"""Session timeout, long enough that the broker does not evict the paused process."""


class FeaturesUnderTest:
    """A running features process, observed through its metrics."""

    def __init__(self, port: int, child: subprocess.Popen[bytes]) -> None:
        """Observe the process that serves this port."""
        self._url = f"http://127.0.0.1:{port}"
        self._child = child

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Pause the process until the block ends."""
        self._child.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._child.send_signal(signal.SIGCONT)

    def is_ready(self) -> bool:
        """Tell whether the process has its partitions."""
        with contextlib.suppress(OSError):
            return bool(self._get("/health/ready"))
        return False

    def applied(self, view: str) -> float:
        """Return the number of events of a view that were applied and written."""
        return self._metric(f'driftline_feature_events_total{{result="applied",view="{view}"}}')

    def cpu_seconds(self) -> float:
        """Return the CPU time used so far."""
        return self._metric("process_cpu_seconds_total")

    def rows(self, view: str) -> float:
        """Return the number of rows of a view that were written."""
        return self._metric(f'driftline_feature_rows_total{{view="{view}"}}')

    def wait_for(self, view: str, events: float) -> float:
        """Wait until this number of events has been applied; return the duration in seconds."""
        began = time.monotonic()
        while (applied := self.applied(view)) < events:
            if time.monotonic() > began + SECONDS_MAX:
                sys.exit(f"bench: {view} has {applied:,.0f} of {events:,.0f} events after {SECONDS_MAX:g} s")
            time.sleep(POLL_SECONDS)
        return time.monotonic() - began

    def _metric(self, name: str) -> float:
        for line in self._get("/metrics").splitlines():
            if line.startswith(f"{name} "):
                return float(line.rpartition(" ")[2])
        return 0.0

    def _get(self, path: str) -> str:
        with urllib.request.urlopen(self._url + path, timeout=5) as response:
            text: str = response.read().decode()
        return text


def measure(settings: Settings) -> tuple[dict[str, dict[str, Figures]], dict[str, float]]:
    """Return rates and costs, and our rate relative to the faster of Feast's methods."""
    settings = settings.model_copy(
        update={
            "feature_repo": JOB / "feature_repo",
            "features_port": ports.free_port(),
            "session_timeout_seconds": SESSION_SECONDS,
        }
    )
    os.environ |= settings.environment()
    os.environ["DRIFTLINE_ONLINE_STORE"] = repository.online_store_address(settings.redis_url)
    repository.apply(settings)
    _create_topics(settings)
    with _features(settings) as process, repository.quiet():
        rates = _rates(settings, process)
        costs = _costs(settings, process)
    feast_rate = max(rate for name, rate in rates.items() if name != OURS)
    writes: dict[str, Figures] = {name: {"events_per_second": rate} for name, rate in rates.items()}
    return {"write": writes, "cost": costs}, {"write": rates[OURS] / feast_rate}


def _create_topics(settings: Settings) -> None:
    from kafka.admin import KafkaAdminClient, NewTopic

    admin = KafkaAdminClient(**settings.kafka_options())
    admin.create_topics([NewTopic(topic, PARTITIONS, 1) for topic in (UPDATES, PAYMENTS)])
    admin.close()


@contextlib.contextmanager
def _features(settings: Settings) -> Iterator[FeaturesUnderTest]:
    log_file = settings.home / "features.log"
    with processes.running([sys.executable, "-m", "services.operations.cli", "features"], log_file) as child:
        process = FeaturesUnderTest(settings.features_port, child)
        deadline = time.monotonic() + SECONDS_MAX
        while not process.is_ready():
            if child.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"bench: features did not start:\n{log_file.read_text()[-3000:]}")
            time.sleep(0.2)
        yield process


def _rates(settings: Settings, process: FeaturesUnderTest) -> dict[str, float]:
    """Let all writers take turns; return each one's median rate in events per second."""
    methods = _feast_methods(settings)
    measured: dict[str, list[float]] = {name: [] for name in [*methods, OURS]}
    for turn in range(TURNS + 1):
        with process.paused():
            _send(settings, UPDATES, _updates(turn * EVENTS, EVENTS))
            frames = [_frame(turn * EVENTS + number * FRAME_ROWS) for number in range(FRAMES)]
            for name, write in methods.items():
                began = time.perf_counter()
                for frame in frames:
                    write(frame)
                measured[name].append(FRAMES * FRAME_ROWS / (time.perf_counter() - began))
        measured[OURS].append(EVENTS / process.wait_for("streamed", (turn + 1) * EVENTS))
    return {name: statistics.median(rates[1:]) for name, rates in measured.items()}  # the first turn connects


def _feast_methods(settings: Settings) -> dict[str, Callable[[Any], Any]]:
    """Return Feast's two methods to write a frame."""
    from feast import FeatureStore
    from feast.data_source import PushMode

    store = FeatureStore(repo_path=str(settings.feature_repo))
    return {
        "feast push": lambda frame: store.push("pushes", frame, to=PushMode.ONLINE),
        "feast write_to_online_store": lambda frame: store.write_to_online_store("pushed", frame),
    }


def _frame(start: int) -> Any:
    import pandas as pd

    frame = pd.DataFrame(_updates(start, FRAME_ROWS))
    frame["event_time"] = pd.to_datetime(frame["event_time"])
    return frame


def _costs(settings: Settings, process: FeaturesUnderTest) -> dict[str, Figures]:
    """Return the CPU time per event and per row of a windowed view, by events and users."""
    costs: dict[str, Figures] = {}
    written = 0
    for events, users in SIZES:
        before, rows_before = process.cpu_seconds(), process.rows("spending")
        with process.paused():
            _send(settings, PAYMENTS, _payments(f"{events}-{users}", events, users))
        written += events
        process.wait_for("spending", written)
        spent_us = (process.cpu_seconds() - before) * 1e6
        rows = process.rows("spending") - rows_before
        costs[f"{events:,} events of {users:,} users"] = {
            "cpu_us_per_event": spent_us / events,
            "cpu_us_per_row": spent_us / rows,
        }
    return costs


def _updates(start: int, count: int) -> list[dict[str, Any]]:
    chooser = random.Random(start)
    return [
        {
            "user_id": f"user-{chooser.randrange(USERS)}",
            "event_time": (START + dt.timedelta(seconds=start + number)).isoformat(),
            **{name: chooser.random() for name in NAMES},
        }
        for number in range(count)
    ]


def _payments(prefix: str, events: int, users: int) -> Iterator[dict[str, Any]]:
    """Yield payments of all users in turn; each series is later than the last, as watermarks only rise."""
    chooser = random.Random(events)
    start = START + dt.timedelta(days=365 * SIZES.index((events, users)))
    step = PAYMENT_EVERY / users
    for number in range(events):
        yield {
            "user_id": f"{prefix}-{number % users}",
            "event_time": (start + number * step).isoformat(),
            "amount": chooser.randrange(10_000) / 100,
        }


def _send(settings: Settings, topic: str, events: Iterable[dict[str, Any]]) -> None:
    """Send events; a user has the same partition in every turn."""
    from streams.producer import partition_of

    batches: dict[int, list[Record]] = {partition: [] for partition in range(PARTITIONS)}
    partitions: dict[str, int] = {}
    for event in events:
        user = event["user_id"]
        if user not in partitions:
            partitions[user] = partition_of(user.encode(), PARTITIONS)
        batches[partitions[user]].append((user.encode(), msgspec.json.encode(event), []))
    installation.send(settings, topic, batches)
