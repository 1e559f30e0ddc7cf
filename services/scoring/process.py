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

from services.runtime import logs
from services.runtime.settings import Settings
from services.runtime.web import server
from streams import garbage

if TYPE_CHECKING:
    from starlette.types import ASGIApp


READY_SECONDS_MAX = 60.0
"""After which a worker listens even so: whoever asks should be told what is not ready."""
LOOK_SECONDS = 0.05


def run(*, workers: Annotated[int, Parameter(validator=Number(gte=1, lte=64))] = 1) -> None:
    """Run until SIGINT or SIGTERM.

    Args:
        workers: Processes behind the one port; each of them also takes its share of the partitions.
    """
    settings = Settings()
    logs.configure_logging("scoring", settings.log_level)
    if workers > 1:
        from services.scoring import workers as parent

        parent.run(workers)
    else:
        serve(settings)


def serve(settings: Settings, *, worker_of: int | None = None, workers: int = 1) -> None:
    """Be the only process, or one of some workers that share a port, and ends with its parent."""
    # Slices are small and lanes many: one thread a prediction, before OpenMP loads and starts its own.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    Scoring(settings, workers).run(worker_of)


class Scoring:
    """All models of one installation, in one event loop."""

    def __init__(self, settings: Settings, workers: int = 1) -> None:
        """Wire the parts that all models share; so many processes share the port."""
        from services.runtime import schema_registry_client
        from services.runtime.redis_pipeline import AsyncPipeline
        from services.runtime.web import rate_limits
        from services.scoring import model_loading
        from services.scoring.deployments import Collaborators, Fleet
        from services.scoring.model_cache import ModelCache
        from services.scoring.models_follower import ModelFollower
        from services.scoring.tracing import Tracing
        from streams.producer import BatchProducer

        self._settings = settings
        self._door = server.Door()
        self._listener: asyncio.Task[None] | None = None
        self._limit, self._limit_client = rate_limits.shared(settings, workers=workers)
        self._producer = BatchProducer(settings.kafka_options())
        self._follower = ModelFollower(settings.kafka_options())
        self._pipeline = AsyncPipeline.connect(settings)
        self._fleet = Fleet(
            Collaborators(
                settings=settings,
                producer=self._producer,
                follower=self._follower,
                pipeline=self._pipeline,
                loader=model_loading.loader(settings),
                cache=ModelCache(settings.model_cache_mib_max << 20),
                tracing=Tracing(settings.otlp_endpoint, "scoring"),
                registry=schema_registry_client.connect(settings),
            )
        )

    def run(self, worker_of: int | None = None) -> None:
        """Serve Kafka and HTTP until stopped, or until a parent process has ended."""
        from services.runtime import async_process
        from services.scoring.rest import routes

        settings = self._settings
        http = server.application(
            # A model that is broken is told of, but makes nobody take the others out of service.
            self._not_ready,
            routes.routes(lambda: self._fleet.endpoints, self._not_ready),
            settings.scoring_tokens,
            detail=lambda: {"broken": self._fleet.faults},
            limit=self._limit,
            door=self._door,
        )
        listening: async_process.Context = server.serve_in_loop(http, settings.host, settings.scoring_port)
        if worker_of is not None:
            listening = self._listening_when_ready(http)
        async_process.run(
            self._producer.running(),
            self._connected(),
            self._follower.running(),
            listening,
            self._fleet.running(),
            self._door.open(),
            failure=lambda: self._failure(worker_of),
        )

    @contextlib.asynccontextmanager
    async def _listening_when_ready(self, http: "ASGIApp") -> AsyncIterator[None]:
        """Listen on the port of all workers once the models are loaded: the others answer until then."""

        async def listen() -> None:
            deadline = time.monotonic() + READY_SECONDS_MAX
            while self._fleet.waiting and time.monotonic() < deadline:  # noqa: ASYNC110  # it has no event
                await asyncio.sleep(LOOK_SECONDS)
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
        """Tell why a worker cannot go on."""
        if worker_of not in (None, os.getppid()):
            return "the parent has ended"
        if self._listener is not None and self._listener.done():
            return f"cannot listen: {self._listener.exception()!r}"
        return None

    def _not_ready(self) -> str | None:
        return "stopping" if self._door.closed else self._fleet.waiting

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
    own = Settings()
    logs.configure_logging("scoring", own.log_level)
    serve(
        own, worker_of=int(sys.argv[1]), workers=int(sys.argv[2])
    )  # not getppid(): the parent may have ended already
