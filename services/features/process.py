"""The features process: wiring, health, start and stop. Delivery: see `services.features.stage`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

import structlog

from services.feature_store import repository
from services.feature_store.plan import View
from services.features import row_expiry, topic_setup
from services.features.api import OnlineFeatures
from services.features.catch_up import BuildProgress
from services.features.decoder import SourceDecoder, source_decoder
from services.features.erased_events import ErasedEvents
from services.features.generations import Generations
from services.features.heartbeat_store import HeartbeatStore
from services.features.idle_partitions import IdleWatch
from services.features.partition_reader import PartitionReader
from services.features.row_store import RowStore
from services.features.source_stage import SourceStage
from services.features.state_cache import StateCachePool
from services.features.view_heartbeats import ViewHeartbeats
from services.features.view_stage import ViewStage
from services.features.view_state import ViewLogic
from services.features.view_writer import ViewWriter
from services.runtime import async_process, logs, metrics, redis_clients
from services.runtime.settings import Settings
from services.runtime.slice_metrics import slice_observer
from services.runtime.topic_identity import TopicRecreatedError
from services.runtime.topic_watch import TopicIds, TopicWatch
from services.runtime.web import server
from streams.groups import Group
from streams.producer import BatchProducer

if TYPE_CHECKING:
    from services.features.stage import FeatureStage

log = structlog.get_logger()


def run() -> None:
    """Run until SIGINT or SIGTERM."""
    settings = Settings()
    logs.configure_logging("features", settings.log_level)
    async_process.run_again(lambda: FeaturesProcess(settings).run())


class FeaturesProcess:
    """All stream views of the Feast repository, in one event loop."""

    def __init__(self, settings: Settings, store: RowStore | None = None) -> None:
        """Read the plan and wire the stages; connect a store unless one is given."""
        self._settings = settings
        self._plan = repository.load(settings)
        self._store = store or RowStore.connect(settings, self._plan.project)
        views = [view for view in self._plan.views if view.is_stream]
        self._generations = Generations(self._store, self._plan.project, views)
        self._api = OnlineFeatures(settings, self._plan)
        observer = slice_observer("features", "driftline.features")
        self._producer = BatchProducer(settings.kafka_options())
        self._topic_ids = TopicIds(settings.kafka_options())
        self._watch = TopicWatch(self._topic_ids)
        self._group = Group(
            settings,
            "features",
            observer,
            slice_records_max=settings.features_slice_records_max,
            watch=self._watch,
        )
        self._decoders: list[SourceDecoder] = []
        self._stages: list[FeatureStage] = []
        self._sweeping: asyncio.Task[None] | None = None
        self._caches = StateCachePool()
        self._erased = ErasedEvents.of(settings, self._plan.project)
        for views_of_topic in self._plan.by_topic().values():
            self._add_source(views_of_topic)

    def _add_source(self, views: tuple[View, ...]) -> None:
        source = views[0].source
        assert source is not None
        decoder = source_decoder(self._plan, source.topic, self._settings)
        self._decoders.append(decoder)
        producer = self._producer
        logics = [ViewLogic(self._plan.project, view) for view in views]
        writers = [
            ViewWriter(
                logic,
                self._store,
                producer,
                self._caches,
                row_expiry.seconds(self._plan.views, logic.view),
                self._erased,
            )
            for logic in logics
        ]
        shared = (self._store, producer, self._generations, self._open_reader)
        stages: list[FeatureStage] = [SourceStage(decoder, writers, *shared)]
        stages += [
            ViewStage(decoder, writer, *shared) for writer in writers if writer.logic.view.is_repartitioned
        ]
        for stage in stages:
            self._group.slices([stage.topic], stage.handle, stage.release)
        self._stages += stages

    def _open_reader(self, topic: str, partition: int) -> AbstractAsyncContextManager[PartitionReader]:
        options, records_max = self._settings.kafka_options(), self._settings.features_slice_records_max
        return PartitionReader.opened(options, topic, partition, records_max)

    def run(self) -> None:
        """Serve Kafka and HTTP until stopped."""
        if not self._stages:
            log.warning("features.nothing_to_do", reason="no view of the repository has a stream source")
        idle_watch, heartbeats = self._idle_watch(), self._view_heartbeats()
        tasks: dict[str, IdleWatch | ViewHeartbeats] = {
            "idle_watch": idle_watch,
            "view_heartbeats": heartbeats,
        }
        http = server.application(
            self._not_ready,
            self._api.routes(),
            self._settings.feature_tokens,
            detail=lambda: {name: each.failure for name, each in tasks.items() if each.failure},
        )
        async_process.run(
            self._producer.running(),
            server.serve_in_loop(http, self._settings.host, self._settings.features_port),
            self._store.running(self._check_store),
            self._api.running(),
            self._prepared(),
            idle_watch.running(),
            heartbeats.running(),
            self._group.running(),
            failure=self._failure,
        )

    def _failure(self) -> str | None:
        """Return why the process has to end; raise `StartOutageError` if it has to start again."""
        if recreated := self._group.recreated:
            reason = (
                f"recreated since the last read: {', '.join(recreated)}; the views are built again from the "
                "start"
            )
            raise async_process.StartOutageError from TopicRecreatedError(reason)
        return self._group.failure

    def _idle_watch(self) -> IdleWatch:
        client = redis_clients.connect(self._settings)
        return IdleWatch(self._decoders, client, self._producer, self._settings.kafka_options())

    def _view_heartbeats(self) -> ViewHeartbeats:
        views = [view for topic in self._plan.by_topic().values() for view in topic if view.is_repartitioned]
        sources = {view.name: view.source.topic for view in views if view.source is not None}
        store = HeartbeatStore.connect(self._settings, self._plan.project)
        return ViewHeartbeats(sources, store, self._producer)

    @contextlib.asynccontextmanager
    async def _prepared(self) -> AsyncIterator[None]:
        """Prepare topics and generations, and announce the watermark of every partition."""
        partitions = await topic_setup.prepare(self._settings, self._plan)
        ids = await self._watch.start(topic_setup.topics_read(self._plan))
        self._erased.note_topics(ids)
        await self._erased.check()
        await self._erased.refresh()
        await self._generations.start(partitions, topic_setup.identities(self._plan, ids))
        for view, number in partitions.items():
            await self._store.announce(view, number)
        with contextlib.closing(self._topic_ids):
            yield
        await self._erased.close()
        if self._sweeping is not None:
            self._sweeping.cancel()
        for stage in self._stages:
            await stage.release()

    async def _check_store(self) -> None:
        """Check whether the store has lost data, also while no records arrive; start the builds due."""
        await self._generations.check()
        if await self._erased.check():
            self._caches.clear()  # the states of erased subjects are in them
        if self._generations.superseded():
            return
        if self._generations.unswept() and (self._sweeping is None or self._sweeping.done()):
            self._sweeping = asyncio.create_task(self._generations.sweep(), name="sweep")
        for stage in self._stages:
            committed = self._group.committed()
            await stage.start_builds(
                {tp.partition: offset for tp, offset in committed.items() if tp.topic == stage.topic}
            )
        builds = self._builds()
        for view in self._generations.views:
            left = builds[view].records_left if view in builds else 0
            metrics.FEATURE_BUILD_RECORDS.labels(view).set(left)

    def _builds(self) -> dict[str, BuildProgress]:
        """Return the progress of the views being built; add up a view that both stages build."""
        found: dict[str, BuildProgress] = {}
        for stage in self._stages:
            for view, progress in stage.builds().items():
                found[view] = found[view].plus(progress) if view in found else progress
        return found

    def _not_ready(self) -> str | None:
        if self._store.fault is not None:
            return self._store.fault
        if superseded := self._generations.superseded():
            return (
                f"another process builds {', '.join(superseded)} from another definition; "
                "restart this process with that repository"
            )
        if not self._group.assigned:
            return "waiting for partitions"
        if blocked := self._group.blocked():
            return "; ".join(map(str, blocked))
        builds = [f"{view}: {progress}" for view, progress in self._builds().items()]
        return f"views are being built: {'; '.join(builds)}" if builds else None
