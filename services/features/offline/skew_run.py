"""Runs the skew checks of the selected models, once or again and again."""

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
from services.runtime.command_output import say
from services.runtime.declaration import DeclarationError
from services.runtime.declaration_file import load_all
from services.runtime.settings import Settings
from services.runtime.web import server

COMMAND = "driftline features skew"

log = structlog.get_logger()


def run(*, every: float | None, model: str | None) -> None:
    """Do what `services.features.offline.skew_command.skew` says; exit with 1 if a value differs."""
    settings = Settings()
    logs.configure_logging("skew", settings.log_level)
    try:
        plan, declarations = repository.load(settings), load_all(settings.models)
        if model is not None and model not in declarations:
            sys.exit(f"{COMMAND}: there is no model {model!r}; declared models: {', '.join(declarations)}")
        selected = [declarations[name] for name in ([model] if model else declarations)]
        partitions = _partitions(settings, list(plan.by_topic()))
        checks = [SkewCheck(settings, plan, one, partitions) for one in selected if one.features.service]
        if every is None:
            sys.exit(1 if _run_all(checks) else 0)
        _run_repeatedly(settings, checks, every)
    except (PlanError, ArchiveError, DeclarationError) as error:
        sys.exit(f"{COMMAND}: {error}")


def _run_all(checks: Sequence[SkewCheck]) -> int:
    """Run each check, print its report; return the number of values that differ."""
    reports = [check.run() for check in checks]
    for report in reports:
        say(*report_lines(report))
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
        sys.exit(f"{COMMAND}: Kafka: {error}: try 'driftline check --connect'")
