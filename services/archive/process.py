"""The archive process: topics -> Delta tables, the inference log."""

import asyncio
import contextlib
import time
from collections.abc import Mapping

import structlog

from services.archive import archiver, row_schemas
from services.feature_store import repository
from services.feature_store.plan import PlanError
from services.feature_store.plan_watch import PlanWatch
from services.runtime import async_process, logs
from services.runtime.declaration import ModelDeclaration
from services.runtime.declaration_file import DeclarationFolder
from services.runtime.quarantine import Quarantine
from services.runtime.session_failures import SessionFailures
from services.runtime.settings import Settings
from services.runtime.topic_watch import TopicIds
from services.runtime.web import server
from streams import defects, topics
from streams.producer import BatchProducer

log = structlog.get_logger()

REFRESH_SECONDS = 1.0
"""Time between two checks of the declarations."""


def topic_tables(
    settings: Settings, declarations: Mapping[str, ModelDeclaration]
) -> dict[str, row_schemas.Table]:
    """Return the table of each topic that is archived."""
    table_of = {topics.LEDGER.name: row_schemas.LEDGER}
    with contextlib.suppress(PlanError):  # without an applied Feast repository there are no source topics
        table_of.update(dict.fromkeys(repository.load(settings).by_topic(), row_schemas.EVENTS))
    for declaration in declarations.values():
        table_of[declaration.request.topic] = row_schemas.EVENTS
        table_of[declaration.label.topic] = row_schemas.EVENTS
        table_of[topics.predictions(declaration.name)] = row_schemas.PREDICTIONS
        table_of[topics.outcomes(declaration.name)] = row_schemas.OUTCOMES
    return table_of


def run() -> None:
    """Archive events, predictions and outcomes to Delta tables, until SIGINT or SIGTERM."""
    settings = Settings()
    logs.configure_logging("archive", settings.log_level)
    archiving = async_process.BackgroundTask("archive", ArchiveSessions(settings).run)
    async_process.run(archiving.running(), failure=archiving.failure)


class ArchiveSessions:
    """Archivers, one after another: after an error, and when what is declared changes, the next one begins.

    Nothing is lost between them: each continues reading where the tables end.
    """

    def __init__(self, settings: Settings) -> None:
        """Nothing connects before `run`."""
        self._settings = settings
        self._folder = DeclarationFolder(settings.models)
        self._plan = PlanWatch(settings)
        self._quarantine = Quarantine("archive")
        self._tables = Quarantine("archive", "table")
        self._archiver: archiver.Archiver | None = None
        self._failures = SessionFailures()
        self._topic_ids = TopicIds(settings.kafka_options())

    def not_ready(self) -> str | None:
        """Return why nothing is archived now, or None."""
        return self._failures.reason or (self._archiver.not_ready() if self._archiver else None)

    async def run(self, stopping: asyncio.Event) -> None:
        """Archive until the event is set; after an error, wait with back-off and start again."""
        application = server.application(
            self.not_ready, detail=lambda: {**self._quarantine.detail(), **self._tables.detail()}
        )
        async with server.serve_in_loop(application, self._settings.host, self._settings.archive_port):
            with contextlib.closing(self._topic_ids):
                await self._sessions(stopping)

    async def _sessions(self, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            try:
                with defects.panics_as_errors():
                    await self._session(stopping)
                continue
            except Exception as error:  # noqa: BLE001  # a process that ends would only meet it again
                pause_seconds = self._failures.pause_seconds(error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), pause_seconds)

    async def _session(self, stopping: asyncio.Event) -> None:
        self._quarantine.declare(self._folder.valid, self._folder.faults, time.monotonic())
        tables = topic_tables(self._settings, self._folder.valid)
        async with BatchProducer(self._settings.kafka_options()).running() as producer:
            consumer = archiver.connect(self._settings)
            self._archiver = archiver.Archiver(
                self._settings,
                tables,
                consumer,
                producer,
                self._tables,
                self._topic_ids,
            )
            self._failures.started()
            over = asyncio.Event()
            watch = asyncio.create_task(self._watch(stopping, over))
            try:
                await self._archiver.run(over)
                await watch  # raises its error
            finally:
                watch.cancel()
                await asyncio.gather(watch, return_exceptions=True)

    async def _watch(self, stopping: asyncio.Event, over: asyncio.Event) -> None:
        """Set ``over`` when the process stops, or what is archived may have changed."""
        try:
            while not stopping.is_set() and not await asyncio.to_thread(self._has_changed):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), REFRESH_SECONDS)
        except Exception as error:  # logged here, because the archiver may fail as well and hide it
            log.warning("archive.watch_failed", error=repr(error))
            raise
        finally:
            over.set()  # after an error here, too: the session ends with it

    def _has_changed(self) -> bool:
        return bool(self._folder.refresh()) | self._plan.refresh()
