"""The archive process: topics -> Delta tables, the inference log."""

import asyncio
import contextlib
import signal

from services import feature_plan, telemetry, web
from services.archive import tables
from services.model import ModelDeclaration, load_all
from services.settings import Settings
from streams import topics


def topic_tables(settings: Settings, declarations: dict[str, ModelDeclaration]) -> dict[str, tables.Table]:
    """Return the table of each topic that is archived."""
    found = {}
    with contextlib.suppress(feature_plan.PlanError):  # without an applied repository there are no sources
        found.update(dict.fromkeys(feature_plan.load(settings).by_topic(), tables.EVENTS))
    for declaration in declarations.values():
        found[declaration.request.topic] = tables.EVENTS
        found[declaration.label.topic] = tables.EVENTS
        found[topics.predictions(declaration.name)] = tables.PREDICTIONS
        found[topics.outcomes(declaration.name)] = tables.OUTCOMES
    return found


def run() -> None:
    """Archive events, predictions and outcomes to Delta tables."""
    import uvloop

    settings = Settings()
    telemetry.configure_logging("archive", settings.log_level)
    uvloop.run(_run(settings))


async def _run(settings: Settings) -> None:
    from services.archive.archiver import Archiver

    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    archiver = Archiver(settings, topic_tables(settings, load_all(settings.models)))
    async with web.serve_in_loop(web.application(archiver.not_ready), settings.host, settings.archive_port):
        await archiver.run(stopping)
