"""The features process: wiring, health and life. Delivery: see `services.features.stages`."""

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from services import telemetry, web
from services.settings import Settings

if TYPE_CHECKING:
    from services.feature_plan import View
    from services.features.idleness import IdleWatch
    from services.features.intake import SourceReader
    from streams.app import App


def run() -> None:
    """Run until SIGINT or SIGTERM."""
    settings = Settings()
    telemetry.configure_logging("features", settings.log_level)
    Features(settings).run()


class Features:
    """All stream views of the Feast repository, in one event loop."""

    def __init__(self, settings: Settings) -> None:
        """Read the plan and wire the stages."""
        from services import feature_plan
        from services.features.api import OnlineFeatures
        from services.features.store import FeatureStore
        from streams.app import App

        self._settings = settings
        self._plan = feature_plan.load(settings)
        self._store = FeatureStore.connect(settings)
        self._api = OnlineFeatures(settings, self._plan)
        self._app = App(settings, "features", telemetry.slice_observer("features"))
        self._readers: list[SourceReader] = []
        for views in self._plan.by_topic().values():
            self._add_source(self._app, views)

    def _add_source(self, app: "App", views: "tuple[View, ...]") -> None:
        from services.features.intake import SourceReader
        from services.features.stages import SourceStage, ViewStage
        from services.features.states import ViewLogic
        from services.features.topic_setup import read_by
        from services.features.writing import ViewWriter

        source = views[0].source
        assert source is not None
        reader = SourceReader(source, self._settings.record_bytes_max)
        self._readers.append(reader)
        writers = [
            ViewWriter(ViewLogic(self._plan.project, view), self._store, app.producer) for view in views
        ]
        app.slices([source.topic], SourceStage(reader, writers, self._store, app.producer).handle)
        for writer in writers:
            if writer.logic.view.is_repartitioned:
                stage = ViewStage(reader, writer, self._store, app.producer)
                app.slices([read_by(writer.logic.view)], stage.handle)

    def run(self) -> None:
        """Serve Kafka and HTTP until stopped."""
        http = web.application(self._not_ready, self._api.routes(), self._settings.token_digests)
        self._app.run(
            web.serve_in_loop(http, self._settings.host, self._settings.features_port),
            self._store.running(),
            self._api.running(),
            self._prepared(),
            self._idle_watch().running(),
        )

    def _idle_watch(self) -> "IdleWatch":
        import redis.asyncio

        from services.features.idleness import IdleWatch

        client = redis.asyncio.Redis.from_url(self._settings.redis_url, protocol=2)
        return IdleWatch(self._readers, client, self._app.producer, self._settings.kafka_options())

    @contextlib.asynccontextmanager
    async def _prepared(self) -> AsyncIterator[None]:
        """Make sure of the topics, and that every partition's watermark is known to be awaited."""
        from services.features import topic_setup

        for view, partitions in (await topic_setup.prepare(self._settings, self._plan)).items():
            await self._store.announce(view, partitions)
        yield

    def _not_ready(self) -> str | None:
        if self._store.fault is not None:
            return self._store.fault
        return None if self._app.assigned else "waiting for partitions"
