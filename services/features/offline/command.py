"""``driftline features backfill`` and ``driftline features skew``: the stream views over the archive."""

import datetime as dt
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Self

from cyclopts import Parameter

from services.runtime.settings import Settings
from streams import codec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.progress import TaskID

    from services.features.offline.backfill import Account
    from services.features.offline.skew_check import SkewCheck

_SHARE = 0.25
"""Without a terminal, a line for each such part of a step."""


def backfill(
    *, view: Annotated[list[str] | None, Parameter(negative="")] = None, until: dt.datetime | None = None
) -> None:
    """Run the stream views over the archived events, and write the files of their batch sources.

    Afterwards Feast's get_historical_features returns, at every event time, what was served online. A file is
    replaced at once, when it is complete; to repeat this is harmless.

    Args:
        view: Only this stream view; may be given several times.
        until: Leave out what happened after this moment (UTC).
    """
    from services.feature_store import repository
    from services.feature_store.plan import PlanError
    from services.features.offline import backfill as offline
    from services.features.offline.archived_events import ArchiveError
    from services.features.offline.timeline import END_MS

    settings = Settings()
    until_ms = (
        END_MS if until is None else codec.epoch_ms(until if until.tzinfo else until.replace(tzinfo=dt.UTC))
    )
    try:
        plan = repository.load(settings)
        with _Progress() as progress:
            accounts = offline.run(settings, plan, progress.report, views=view or (), until_ms=until_ms)
    except (PlanError, ArchiveError) as error:
        sys.exit(f"driftline features backfill: {error}")
    for account in accounts:
        print(_line(account))  # noqa: T201  # the command's answer


def skew(*, every: float | None = None, model: str | None = None) -> None:
    """Recompute a sample of the served features from archive and batch sources, and say what differs.

    Each run compares what has become complete since the last one, and prints the report of all so far, which
    is kept in skew/<model>.json in the home folder; without that file everything is compared again. Exits
    with 1 if the report has a value that differs.

    Args:
        every: Go on for ever, with a run after so many seconds; metrics are on skew_port.
        model: Only this one; default: all that are declared.
    """
    from services.feature_store import repository
    from services.feature_store.plan import PlanError
    from services.features.offline.archived_events import ArchiveError
    from services.features.offline.skew_check import SkewCheck
    from services.runtime import logs
    from services.runtime.declaration import DeclarationError
    from services.runtime.declaration_file import load_all

    settings = Settings()
    logs.configure_logging("skew", settings.log_level)
    try:
        plan, declarations = repository.load(settings), load_all(settings.models)
        if model is not None and model not in declarations:
            sys.exit(f"there is no model {model!r}; known are {', '.join(declarations)}")
        chosen = [declarations[name] for name in ([model] if model else declarations)]
        partitions = _partitions(settings, list(plan.by_topic()))
        checks = [SkewCheck(settings, plan, one, partitions) for one in chosen if one.features.service]
        if every is None:
            sys.exit(1 if _run_all(checks) else 0)
        _run_for_ever(settings, checks, every)
    except (PlanError, ArchiveError, DeclarationError) as error:
        sys.exit(f"driftline features skew: {error}")


def _run_all(checks: "Sequence[SkewCheck]") -> int:
    """Run each check, print its report; return how many values differ."""
    from services.features.offline.skew import lines

    reports = [check.run() for check in checks]
    for report in reports:
        print("\n".join(lines(report)), flush=True)  # noqa: T201  # the command's answer
    return sum(report.different for report in reports)


def _run_for_ever(settings: Settings, checks: "Sequence[SkewCheck]", every_seconds: float) -> None:
    import signal
    import threading

    import structlog

    from services.features.offline.archived_events import ArchiveError
    from services.runtime.web import server

    log = structlog.get_logger()

    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    http = server.application(lambda: None)
    with server.serve_in_thread(http, settings.host, settings.skew_port):
        while not stopping.is_set():
            try:
                _run_all(checks)
            except ArchiveError as error:
                log.warning("skew.waiting", reason=str(error))
            stopping.wait(every_seconds)


def _partitions(settings: Settings, names: list[str]) -> dict[str, int]:
    """Ask Kafka how many partitions the topics have."""
    import contextlib

    from kafka import KafkaConsumer
    from kafka.errors import KafkaError

    try:
        with contextlib.closing(KafkaConsumer(**settings.kafka_options())) as consumer:
            return {name: len(consumer.partitions_for_topic(name) or ()) for name in names}
    except KafkaError as error:
        sys.exit(f"Kafka at {settings.broker}: {error}: try 'driftline check --connect'")


def _line(account: "Account") -> str:
    left_out = f"{account.late} late, {account.invalid} invalid, {account.no_entity} without entity"
    return (
        f"ok  {account.view}: {account.events} events ({left_out}) of {account.entities} entities -> "
        f"{account.rows} rows in {account.path}"
    )


class _Progress:
    """Bars on a terminal, otherwise a line now and then."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self._console = Console(stderr=True)
        self._bars = Progress(console=self._console) if self._console.is_terminal else None
        self._tasks: dict[str, TaskID] = {}
        self._told: dict[str, float] = {}

    def __enter__(self) -> Self:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars:
            self._bars.stop()

    def report(self, step: str, done: int, total: int) -> None:
        """Show how far a step is."""
        if self._bars:
            if step not in self._tasks:
                self._tasks[step] = self._bars.add_task(step, total=total)
            self._bars.update(self._tasks[step], completed=done, total=total)
        elif done >= min(total, self._told.get(step, 0.0) + _SHARE * total):
            self._told[step] = done
            self._console.print(f"{step}: {done} of {total}", highlight=False)
