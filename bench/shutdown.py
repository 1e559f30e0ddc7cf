"""How long each process takes from SIGTERM to its end, with servers that answer and with a Kafka that hangs.

A process must end within the 10 seconds that an orchestrator grants at the least. The ratio is that bound
divided by the longest end.
"""

import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import psutil

from bench import report
from services.feature_store import repository
from services.operations.local_servers import ports
from services.operations.local_servers.cluster import Embedded
from services.operations.local_servers.supervisor import Child, Launch, Supervisor, answers_ok
from services.runtime import declaration_file, topic_creation
from services.runtime.settings import Settings

PROCESSES = ("scoring", "features", "drift", "learning", "archive", "retraining", "dashboard", "alerting")
BOUND_SECONDS = 10.0
READY_SECONDS_MAX = 120.0
END_SECONDS_MAX = 60.0
TURNS = 3
COMMAND = ("-m", "services.operations.cli")


def main() -> None:
    """Measure and report."""
    measures: dict[str, dict[str, report.Figures]] = {}
    with _installed() as settings:
        for name in PROCESSES:
            seconds = [_end_seconds(settings, name) for _ in range(TURNS)]
            with_hung_kafka = _end_seconds(settings, name, kafka_hangs=True)
            measures[name] = {
                "Kafka answers": {"median_s": sorted(seconds)[TURNS // 2], "max_s": max(seconds)},
                "Kafka hangs": {"max_s": with_hung_kafka},
            }
    longest = max(figures["max_s"] for each in measures.values() for figures in each.values())
    ratios = {"bound_over_longest_end": BOUND_SECONDS / longest}
    report.write_measures("shutdown", measures, ratios, "seconds from SIGTERM to the end of a process")
    print(f"longest {longest:.1f} s, bound {BOUND_SECONDS:.0f} s")


@contextmanager
def _installed() -> Iterator[Settings]:
    """Run the servers for the flights' repository and models, with topics and without a model version."""
    free = {f"{name}_port": ports.free_port() for name in PROCESSES}
    with (
        tempfile.TemporaryDirectory(prefix="driftline-bench-") as folder,
        Embedded(Settings().model_copy(update={"home": Path(folder), **free})) as servers,
    ):
        plan = repository.apply(servers.settings)
        topic_creation.ensure_topics(
            servers.settings,
            declaration_file.load_all(servers.settings.models),
            applications=list(plan.by_topic()),
            views=[view.name for view in plan.views if view.is_repartitioned],
        )
        yield servers.settings


def _end_seconds(settings: Settings, name: str, *, kafka_hangs: bool = False) -> float:
    """Start a process, wait until it is ready, send SIGTERM; return the seconds until its end."""
    with Supervisor() as supervisor:
        child = supervisor.start(_launch(settings, name))
        supervisor.wait_ready(child, seconds=READY_SECONDS_MAX)
        with _hung_kafka(settings.home) if kafka_hangs else nullcontext():
            began = time.monotonic()
            child.signal(signal.SIGTERM)
            _wait(child)
            seconds = time.monotonic() - began
        supervisor.forget(child)
        return seconds


def _wait(child: Child) -> None:
    if child.wait(END_SECONDS_MAX) is None:
        child.signal(signal.SIGKILL)


def _launch(settings: Settings, name: str) -> Launch:
    return Launch(
        name=name,
        command=[sys.executable, *COMMAND, name],
        log=settings.home / f"{name}.log",
        environment=settings.environment(),
        ready=answers_ok(settings.host, getattr(settings, f"{name}_port"), "/health/ready"),
    )


@contextmanager
def _hung_kafka(home: Path) -> Iterator[None]:
    """Suspend the broker that keeps its data in a folder."""
    brokers = [
        process
        for process in psutil.process_iter(["cmdline"])
        if "kafka.Kafka" in (process.info["cmdline"] or ())
        and any(str(home) in part for part in process.info["cmdline"])
    ]
    for broker in brokers:
        broker.suspend()
    try:
        yield
    finally:
        for broker in brokers:
            broker.resume()


if __name__ == "__main__":
    main()
