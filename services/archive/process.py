"""The archive process: topics -> Delta tables, the inference log."""

import asyncio
import contextlib
import functools

from services.archive import archiver, row_schemas
from services.feature_store import repository
from services.feature_store.plan import PlanError
from services.runtime import async_process, logs
from services.runtime.declaration import ModelDeclaration
from services.runtime.declaration_file import load_all
from services.runtime.settings import Settings
from services.runtime.web import server
from streams import topics


def topic_tables(
    settings: Settings, declarations: dict[str, ModelDeclaration]
) -> dict[str, row_schemas.Table]:
    """Return the table of each topic that is archived."""
    table_of = {}
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
    archiving = async_process.BackgroundTask("archive", functools.partial(_archive, settings))
    async_process.run(archiving.running(), failure=archiving.failure)


async def _archive(settings: Settings, stopping: asyncio.Event) -> None:
    tables = topic_tables(settings, load_all(settings.models))
    archive = archiver.Archiver(settings, tables, archiver.connect(settings))
    application = server.application(archive.not_ready)
    async with server.serve_in_loop(application, settings.host, settings.archive_port):
        await archive.run(stopping)
