"""The scoring process: wiring, health and life. See `services.scoring.agent` for the delivery guarantee."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from services import model, telemetry, web
from services.settings import Settings

if TYPE_CHECKING:
    from services.scoring.agent import ScoringAgent
    from streams.batches import Handler, Slice


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
        """Read the declarations and the feature plan, and wire the parts."""
        from services import feature_plan
        from services.online_store import OnlineReader
        from services.scoring import loading
        from services.scoring.agent import ScoringAgent
        from services.scoring.engine import Scorer
        from services.scoring.models import ModelFollower, ModelSet
        from services.tracing import Tracing
        from streams.app import App

        tracing = Tracing(settings.otlp_endpoint, "scoring")
        declarations = model.load_all(settings.models)
        plan = feature_plan.load(settings)
        load = loading.loader(settings)
        self._settings = settings
        self._sets = {name: ModelSet(name, load) for name in declarations}
        self._follower = ModelFollower(settings.kafka_options(), self._sets)
        self._readers = []
        self._scorers: dict[str, Scorer] = {}
        self._app = App(settings, "scoring", telemetry.slice_observer("scoring"))
        agents: dict[str, list[ScoringAgent]] = {}
        for name, declaration in declarations.items():
            service = plan.service(declaration.features.service)
            service.check_inputs()
            reader = OnlineReader.connect(settings, service)
            scorer = Scorer(declaration, service.join_keys, reader, self._sets[name])
            agent = ScoringAgent(
                scorer,
                self._follower,
                self._app.producer,
                record_bytes_max=settings.record_bytes_max,
                wait=declaration.features.wait_seconds > 0,
                cloud_events=settings.cloud_events == "all",
                tracing=tracing,
            )
            self._readers.append(reader)
            self._scorers[name] = scorer
            agents.setdefault(declaration.request.topic, []).append(agent)
        for topic, listeners in agents.items():
            self._app.slices([topic], _handler(listeners))

    def run(self) -> None:
        """Serve Kafka and HTTP until stopped."""
        from services.scoring import rest

        http = web.application(self._not_ready, rest.routes(self._scorers))
        self._app.run(
            self._closing_readers(),
            self._follower.running(),
            web.serve_in_loop(http, self._settings.host, self._settings.scoring_port),
        )

    def _not_ready(self) -> str | None:
        if not self._app.assigned:
            return "waiting for partitions"
        return None

    @contextlib.asynccontextmanager
    async def _closing_readers(self) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            for reader in self._readers:
                await stack.enter_async_context(reader)
            yield


def _handler(agents: Sequence["ScoringAgent"]) -> "Handler":
    async def handle(slice_: "Slice") -> None:
        await asyncio.gather(*(agent.write_predictions(slice_) for agent in agents))
        slice_.ack()

    return handle
