"""The scoring process: wiring, health, shutdown. Its delivery guarantee: `services.scoring.kafka_agent`."""

import contextlib
import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from services.runtime import async_process, logs, schema_registry_client, thread_count
from services.runtime.redis_pipeline import AsyncPipeline
from services.runtime.settings import Settings
from services.runtime.topic_watch import TopicIds
from services.runtime.web import rate_limits, server
from services.scoring import worker_listener
from services.scoring import workers as worker_processes
from services.scoring.tracing import Tracing
from streams import garbage
from streams.producer import BatchProducer

if TYPE_CHECKING:
    from services.scoring.version_loaders import LoaderFactory


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
    thread_count.limit()
    async_process.run_again(lambda: Scoring(settings, workers).run(worker_of))


def serve_as_worker() -> None:
    """Run as one of several workers: the arguments are the parent's process id and the number of workers."""
    garbage.collect_rarely()
    settings = Settings()
    logs.configure_logging("scoring", settings.log_level)
    # The parent's id is an argument: with getppid() here, a parent that has already ended goes unnoticed.
    serve(settings, worker_of=int(sys.argv[1]), workers=int(sys.argv[2]))


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
            settings: Settings of the installation.
            workers: Processes that share the port.
            producer: A producer; default: a new one.
            loader_factory: Returns the loaders of versions; by default those of the registry.
        """
        # late: these import numpy, which reads OMP_NUM_THREADS when it is loaded; see `serve`.
        from services.scoring import deployments, model_cache, models_follower, readiness, version_loaders

        self._settings = settings
        self._concurrency = server.ConcurrencyLimit()
        self._limit, self._limit_client = rate_limits.shared(settings, workers=workers)
        self._producer = producer or BatchProducer(settings.kafka_options())
        self._follower = models_follower.ModelsFollower(settings.kafka_options())
        self._pipeline = AsyncPipeline.connect(settings)
        self._topic_ids = TopicIds(settings.kafka_options())
        self._deployments = deployments.Deployments(
            deployments.SharedResources(
                settings=settings,
                producer=self._producer,
                follower=self._follower,
                pipeline=self._pipeline,
                loader_factory=loader_factory or version_loaders.loader_factory(settings),
                cache=model_cache.ModelCache(settings.model_cache_mib_max << 20),
                tracing=Tracing(settings.otlp_endpoint, "scoring"),
                topic_ids=self._topic_ids,
                registry=schema_registry_client.connect(settings),
            )
        )
        self._readiness = readiness.Readiness(
            self._deployments,
            is_stopping=lambda: self._concurrency.is_closed,
            following_failure=lambda: self._follower.failure,
        )

    def run(self, worker_of: int | None = None) -> None:
        """Serve Kafka and HTTP until stopped, or until the parent process has ended."""
        from services.scoring.rest import routes  # late: imports numpy

        settings = self._settings
        http = server.application(
            self._readiness.not_ready,
            routes.routes(
                lambda: self._deployments.predictors,
                self._readiness.not_ready,
                lambda: self._deployments.absent,
            ),
            settings.scoring_tokens,
            detail=self._readiness.detail,
            limit=self._limit,
            concurrency=self._concurrency,
        )
        listener = worker_listener.WorkerListener(http, settings, self._readiness.not_ready, parent=worker_of)
        async_process.run(
            self._producer.running(),
            self._connected(),
            self._follower.running(),
            listener.running(),
            self._deployments.running(),
            self._concurrency.draining(),
            failure=listener.failure,
        )

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            self._topic_ids.close()
            await self._pipeline.close()
            if self._limit_client is not None:
                await self._limit_client.aclose()
