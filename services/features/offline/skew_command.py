"""``driftline features skew``: compare served features with recomputed ones."""

import contextlib
import sys
from collections.abc import Sequence

import structlog
from kafka import KafkaConsumer
from kafka.errors import KafkaError

from services.feature_store import repository
from services.feature_store.plan import PlanError
from services.features.offline.archived_events import ArchiveError
from services.features.offline.skew_check import SkewCheck
from services.features.offline.skew_report import report_lines
from services.runtime import blocking_process, logs
from services.runtime.declaration import DeclarationError
from services.runtime.declaration_file import load_all
from services.runtime.settings import Settings
from services.runtime.web import server

log = structlog.get_logger()


def skew(*, every: float | None = None, model: str | None = None) -> None:
    """Recompute a sample of the served features from archive and batch sources, and print the differences.

    Each run compares what has become complete since the last run, and prints the report of all runs so far.
    The report is kept in skew/<model>.json in the home folder; delete that file to compare everything again.
    The exit code is 1 if the report has a value that differs.

    Args:
        every: Repeat until stopped, with this pause in seconds between runs; metrics are on skew_port.
        model: Only this model; default: all declared models.
    """
    settings = Settings()
    logs.configure_logging("skew", settings.log_level)
    try:
        plan, declarations = repository.load(settings), load_all(settings.models)
        if model is not None and model not in declarations:
            sys.exit(f"there is no model {model!r}; known are {', '.join(declarations)}")
        selected = [declarations[name] for name in ([model] if model else declarations)]
        partitions = _partitions(settings, list(plan.by_topic()))
        checks = [SkewCheck(settings, plan, one, partitions) for one in selected if one.features.service]
        if every is None:
            sys.exit(1 if _run_all(checks) else 0)
        _run_repeatedly(settings, checks, every)
    except (PlanError, ArchiveError, DeclarationError) as error:
        sys.exit(f"driftline features skew: {error}")


def _run_all(checks: Sequence[SkewCheck]) -> int:
    """Run each check, print its report; return the number of values that differ."""
    reports = [check.run() for check in checks]
    for report in reports:
        print("\n".join(report_lines(report)), flush=True)  # noqa: T201  # the command's output
    return sum(report.different for report in reports)


def _run_repeatedly(settings: Settings, checks: Sequence[SkewCheck], every_seconds: float) -> None:
    """Run all checks and pause, until SIGINT or SIGTERM."""
    stopping = blocking_process.stop_event()
    http = server.application(lambda: None)
    with server.serve_in_thread(http, settings.host, settings.skew_port):
        while not stopping.is_set():
            try:
                _run_all(checks)
            except ArchiveError as error:
                log.warning("skew.waiting", reason=str(error))
            stopping.wait(every_seconds)


def _partitions(settings: Settings, names: list[str]) -> dict[str, int]:
    """Return the number of partitions of each topic in Kafka."""
    try:
        with contextlib.closing(KafkaConsumer(**settings.kafka_options())) as consumer:
            return {name: len(consumer.partitions_for_topic(name) or ()) for name in names}
    except KafkaError as error:
        sys.exit(f"Kafka at {settings.broker}: {error}; run 'driftline check --connect'")
