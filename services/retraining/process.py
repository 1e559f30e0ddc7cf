"""The retraining process: requests -> gated, promoted models. Delivery: `services.retraining.session`."""

import functools

import structlog

from services.retraining import request_api, session
from services.retraining.request_api import RequestInbox
from services.retraining.request_queue import RequestQueue
from services.runtime import blocking_process, thread_count
from services.runtime.declaration_file import DeclarationFolder
from services.runtime.quarantine import Quarantine
from services.runtime.settings import Settings

log = structlog.get_logger()


def run() -> None:
    """Train, gate and promote a new model for each request, until SIGINT or SIGTERM."""
    # One thread per fit, in the processes that are started from here: two fits run side by side.
    thread_count.limit()
    settings = Settings()
    folder, quarantine = DeclarationFolder(settings.models), Quarantine("retraining")
    requests, inbox = RequestQueue(), RequestInbox()
    try:
        blocking_process.run(
            "retraining",
            settings,
            settings.retraining_port,
            functools.partial(session.opened, settings, folder, quarantine, requests, inbox),
            interrupt=True,
            detail=lambda: {**quarantine.detail(), **requests.detail()},
            routes=request_api.routes(settings, inbox),
            tokens=settings.retraining_tokens,
        )
    except KeyboardInterrupt:
        log.info("retraining.stopped")
