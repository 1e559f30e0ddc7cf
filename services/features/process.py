"""The features process: wiring, health and life. Delivery: see `services.features.stages`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from services.runtime import logs, metrics
from services.runtime.settings import Settings
from services.runtime.web import server

if TYPE_CHECKING:
    from services.feature_store.plan import View
    from services.features.catch_up import Building, Stage
    from services.features.decoder import SourceReader
    from services.features.idle_partitions import IdleWatch
    from services.features.partition_reader import PartitionReader


def run() -> None:
    """Run until SIGINT or SIGTERM."""
    settings = Settings()
    logs.configure_logging("features", settings.log_level)
    Features(settings).run()


class Features:
    """All stream views of the Feast repository, in one event loop."""

    def __init__(self, settings: Settings) -> None:
        """Read the plan and wire the stages."""
        from services.feature_store import repository
        from services.features.api import OnlineFeatures
        from services.features.generations import Generations
        from services.features.row_store import FeatureStore
        from services.features.state_cache import Budget
        from streams.groups import Group
        from streams.producer import BatchProducer

        self._settings = settings
        self._plan = repository.load(settings)
        self._store = FeatureStore.connect(settings)
        views = [view for view in self._plan.views if view.is_stream]
        self._generations = Generations(self._store, self._plan.project, views)
        self._api = OnlineFeatures(settings, self._plan)
        observer = metrics.slice_observer("features", "driftline.features")
        self._producer = BatchProducer(settings.kafka_options())
        self._group = Group(
            settings, "features", observer, slice_records_max=settings.features_slice_records_max
        )
        self._readers: list[SourceReader] = []
        self._stages: list[Stage] = []
        self._sweeping: asyncio.Task[None] | None = None
        self._budget = Budget()
        for views_of_topic in self._plan.by_topic().values():
            self._add_source(views_of_topic)

    def _add_source(self, views: "tuple[View, ...]") -> None:
        from services.features.decoder import source_reader
        from services.features.stages import SourceStage, ViewStage
        from services.features.view_state import ViewLogic
        from services.features.view_writer import ViewWriter

        source = views[0].source
        assert source is not None
        reader = source_reader(source, self._settings)
        self._readers.append(reader)
        producer = self._producer
        logics = [ViewLogic(self._plan.project, view) for view in views]
        writers = [ViewWriter(logic, self._store, producer, self._budget) for logic in logics]
        shared = (self._store, producer, self._generations, self._open_reader)
        stages: list[Stage] = [SourceStage(reader, writers, *shared)]
        stages += [
            ViewStage(reader, writer, *shared) for writer in writers if writer.logic.view.is_repartitioned
        ]
        for stage in stages:
            self._group.slices([stage.topic], stage.handle, stage.let_go)
        self._stages += stages

    def _open_reader(self, topic: str, partition: int) -> "AbstractAsyncContextManager[PartitionReader]":
        from services.features.partition_reader import PartitionReader

        options, records_max = self._settings.kafka_options(), self._settings.features_slice_records_max
        return PartitionReader.opened(options, topic, partition, records_max)

    def run(self) -> None:
        """Serve Kafka and HTTP until stopped."""
        from streams import app

        http = server.application(self._not_ready, self._api.routes(), self._settings.feature_tokens)
        app.run(
            self._producer.running(),
            server.serve_in_loop(http, self._settings.host, self._settings.features_port),
            self._store.running(self._tend),
            self._api.running(),
            self._prepared(),
            self._idle_watch().running(),
            self._group.running(),
            failure=lambda: self._group.failure,
        )

    def _idle_watch(self) -> "IdleWatch":
        from services.features.idle_partitions import IdleWatch
        from services.runtime import redis_clients

        client = redis_clients.connect(self._settings)
        return IdleWatch(self._readers, client, self._producer, self._settings.kafka_options())

    @contextlib.asynccontextmanager
    async def _prepared(self) -> AsyncIterator[None]:
        """Make sure of the topics, and that every partition's watermark is known to be awaited."""
        from services.features import topic_setup

        partitions = await topic_setup.prepare(self._settings, self._plan)
        await self._generations.begin(partitions)
        for view, number in partitions.items():
            await self._store.announce(view, number)
        yield
        if self._sweeping is not None:
            self._sweeping.cancel()
        for stage in self._stages:
            await stage.let_go()

    async def _tend(self) -> None:
        """Look whether the store has lost something, also where nothing happens."""
        await self._generations.check()
        if self._generations.superseded():
            return
        if self._generations.unswept() and (self._sweeping is None or self._sweeping.done()):
            self._sweeping = asyncio.create_task(self._generations.sweep(), name="sweep")
        committed = self._group.committed()
        for stage in self._stages:
            await stage.tend(
                {tp.partition: offset for tp, offset in committed.items() if tp.topic == stage.topic}
            )
        building = self._building()
        for view in self._generations.views:
            left = building[view].records_left if view in building else 0
            metrics.FEATURE_BUILD_RECORDS.labels(view).set(left)

    def _building(self) -> "dict[str, Building]":
        """Return the views that are behind; one that moves may be so in both stages."""
        found: dict[str, Building] = {}
        for stage in self._stages:
            for view, building in stage.building().items():
                found[view] = found[view].plus(building) if view in found else building
        return found

    def _not_ready(self) -> str | None:
        if self._store.fault is not None:
            return self._store.fault
        if superseded := self._generations.superseded():
            return (
                f"defined otherwise by another process: {', '.join(superseded)}; restart with its repository"
            )
        if not self._group.assigned:
            return "waiting for partitions"
        told = [f"{view}: {building}" for view, building in self._building().items()]
        return f"views are being built: {'; '.join(told)}" if told else None
