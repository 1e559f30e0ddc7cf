"""The scoring process: wiring, health, shutdown. Its delivery guarantee: `services.scoring.kafka_agent`."""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from services.runtime import async_process, logs, schema_registry_client
from services.runtime.redis_pipeline import AsyncPipeline
from services.runtime.settings import Settings
from services.runtime.web import rate_limits, server
from services.scoring import workers as worker_processes
from services.scoring.tracing import Tracing
from streams import garbage
from streams.producer import BatchProducer

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from services.scoring.version_loaders import LoaderFactory

READY_SECONDS_MAX = 60.0
"""A worker that is still not ready after this time listens anyway, so that callers learn what is missing."""
CHECK_SECONDS = 0.05
"""Time between two checks whether the models of a worker are ready."""


def run(*, workers: Annotated[int, Parameter(validator=Number(gte=1, lte=64))] = 1) -> None:
    """Run until SIGINT or SIGTERM.

    Args:
        workers: Processes that share the port; each also takes its share of the partitions.
    """
    settings = Settings()
    logs.configure_logging("scoring", settings.log_level)
    if workers > 1:
        worker_processes.run(workers)
    else:
        serve(settings)


def serve(settings: Settings, *, worker_of: int | None = None, workers: int = 1) -> None:
    """Run as the only process, or as one of several workers that share a port and end with their parent."""
    # Slices are small and lanes many: one thread for each prediction. Set before OpenMP starts its threads.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    Scoring(settings, workers).run(worker_of)


class Scoring:
    """All models of one installation, in one event loop."""

    def __init__(
        self,
        settings: Settings,
        workers: int = 1,
        *,
        producer: BatchProducer | None = None,
        loader_factory: "LoaderFactory | None" = None,
    ) -> None:
        """Create the parts that all models share.

        Args:
            settings: Of the installation.
            workers: Processes that share the port.
            producer: By default a new one.
            loader_factory: Returns the loaders of versions; by default those of the registry.
        """
        # late: these import numpy, which reads OMP_NUM_THREADS when it is loaded; see `serve`.
        from services.scoring import deployments, model_cache, models_follower, readiness, version_loaders

        self._settings = settings
        self._concurrency = server.ConcurrencyLimit()
        self._listener: asyncio.Task[None] | None = None
        self._limit, self._limit_client = rate_limits.shared(settings, workers=workers)
        self._producer = producer or BatchProducer(settings.kafka_options())
        self._follower = models_follower.ModelsFollower(settings.kafka_options())
        self._pipeline = AsyncPipeline.connect(settings)
        self._deployments = deployments.Deployments(
            deployments.SharedResources(
                settings=settings,
                producer=self._producer,
                follower=self._follower,
                pipeline=self._pipeline,
                loader_factory=loader_factory or version_loaders.loader_factory(settings),
                cache=model_cache.ModelCache(settings.model_cache_mib_max << 20),
                tracing=Tracing(settings.otlp_endpoint, "scoring"),
                registry=schema_registry_client.connect(settings),
            )
        )

        self._readiness = readiness.Readiness(self._deployments, lambda: self._follower.failure)

    def run(self, worker_of: int | None = None) -> None:
        """Serve Kafka and HTTP until stopped, or until the parent process has ended."""
        from services.scoring.rest import routes  # late: imports numpy

        settings = self._settings
        http = server.application(
            self._not_ready,
            routes.routes(lambda: self._deployments.predictors, self._not_ready),
            settings.scoring_tokens,
            detail=self._readiness.detail,
            limit=self._limit,
            concurrency=self._concurrency,
        )
        listening: async_process.Context = server.serve_in_loop(http, settings.host, settings.scoring_port)
        if worker_of is not None:
            listening = self._listening_when_ready(http)
        async_process.run(
            self._producer.running(),
            self._connected(),
            self._follower.running(),
            listening,
            self._deployments.running(),
            self._concurrency.draining(),
            failure=lambda: self._failure(worker_of),
        )

    @contextlib.asynccontextmanager
    async def _listening_when_ready(self, http: "ASGIApp") -> AsyncIterator[None]:
        """Listen on the shared port when the models are loaded: the other workers serve until then."""

        async def listen() -> None:
            deadline = time.monotonic() + READY_SECONDS_MAX
            while self._readiness.not_ready() and time.monotonic() < deadline:  # noqa: ASYNC110  # it has no event
                await asyncio.sleep(CHECK_SECONDS)
            settings = self._settings
            async with server.serve_in_loop(http, settings.host, settings.scoring_port, shared=True):
                await asyncio.Event().wait()

        self._listener = asyncio.create_task(listen(), name="listener")
        try:
            yield
        finally:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)

    def _failure(self, worker_of: int | None) -> str | None:
        """Return why a worker cannot continue, None if it can."""
        if worker_of not in (None, os.getppid()):
            return "the parent process has ended"
        if self._listener is not None and self._listener.done():
            return f"cannot listen on port {self._settings.scoring_port}: {self._listener.exception()!r}"
        return None

    def _not_ready(self) -> str | None:
        return "stopping" if self._concurrency.is_closed else self._readiness.not_ready()

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await self._pipeline.close()
            if self._limit_client is not None:
                await self._limit_client.aclose()


if __name__ == "__main__":
    garbage.collect_rarely()
    process_settings = Settings()
    logs.configure_logging("scoring", process_settings.log_level)
    # The parent's id is an argument: with getppid() here, a parent that has already ended goes unnoticed.
    serve(process_settings, worker_of=int(sys.argv[1]), workers=int(sys.argv[2]))
