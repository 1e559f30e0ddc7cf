"""The scoring process: wiring, health and life. See `services.scoring.agent` for the delivery guarantee."""

import contextlib
import os
from collections.abc import AsyncIterator

from services import telemetry, web
from services.settings import Settings


def run() -> None:
    """Run until SIGINT or SIGTERM."""
    # Slices are small and lanes many: one thread a prediction, before OpenMP loads and starts its own.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    settings = Settings()
    telemetry.configure_logging("scoring", settings.log_level)
    Scoring(settings).run()


class Scoring:
    """All models of one installation, in one event loop."""

    def __init__(self, settings: Settings) -> None:
        """Wire the parts that all models share."""
        from services.redis_pipeline import AsyncPipeline
        from services.scoring import loading
        from services.scoring.fleet import Collaborators, Fleet
        from services.scoring.following import ModelFollower
        from services.scoring.models import ModelCache
        from services.tracing import Tracing
        from streams.producer import BatchProducer

        self._settings = settings
        self._producer = BatchProducer(settings.kafka_options())
        self._follower = ModelFollower(settings.kafka_options())
        self._pipeline = AsyncPipeline.connect(settings)
        self._fleet = Fleet(
            Collaborators(
                settings=settings,
                producer=self._producer,
                follower=self._follower,
                pipeline=self._pipeline,
                loader=loading.loader(settings),
                cache=ModelCache(settings.model_cache_mib_max << 20),
                tracing=Tracing(settings.otlp_endpoint, "scoring"),
            )
        )

    def run(self) -> None:
        """Serve Kafka and HTTP until stopped."""
        from services.scoring import rest
        from streams import app

        http = web.application(
            # A model that is broken is told of, but makes nobody take the others out of service.
            lambda: self._fleet.waiting,
            rest.routes(lambda: self._fleet.scorers),
            detail=lambda: {"broken": self._fleet.faults},
        )
        app.run(
            self._producer.running(),
            self._connected(),
            self._follower.running(),
            web.serve_in_loop(http, self._settings.host, self._settings.scoring_port),
            self._fleet.running(),
        )

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await self._pipeline.close()
