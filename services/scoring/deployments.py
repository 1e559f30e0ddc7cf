"""The models of one installation: each is deployed, changed and removed while the others run.

Every model has its own consumer group, threads and limits. So a slow model only increases its own lag, a
model that cannot be loaded only delays itself, and a declaration that cannot be read affects only its
model: if that model was deployed before, it continues with its previous declaration. So it does if the Feast
repository that was applied last has no features for it.
"""

import asyncio
import contextlib
import dataclasses
import functools
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import structlog

from services.feature_store import declared_features, field_ranges, repository
from services.feature_store.online_reader import OnlineReader
from services.feature_store.plan import ServicePlan
from services.model_registry import model_inputs
from services.runtime import declaration_file, metrics, topic_identity
from services.runtime.declaration import FILE, ModelDeclaration
from services.runtime.event_clock import EventClock
from services.runtime.redis_pipeline import AsyncPipeline
from services.runtime.settings import Settings
from services.runtime.slice_metrics import slice_observer
from services.runtime.topic_creation import ensure_topics
from services.runtime.topic_watch import FindIds, TopicWatch
from services.scoring.applied_features import AppliedFeatures
from services.scoring.inference_pipeline import InferencePipeline
from services.scoring.kafka_agent import SLICES_AT_ONCE, ScoringAgent
from services.scoring.model_cache import ModelCache
from services.scoring.model_calls import ModelCalls
from services.scoring.model_versions import ModelVersions
from services.scoring.models_follower import ModelsFollower
from services.scoring.online_predictor import OnlinePredictor
from services.scoring.outputs import PredictionTask
from services.scoring.request_features import RequestFeatures
from services.scoring.thread_limits import ThreadLimits
from services.scoring.tracing import Tracing
from services.scoring.version_loaders import LoaderFactory
from streams import feature_sets, records, topics
from streams.groups import Group
from streams.producer import BatchProducer, Record
from streams.schemas import SchemaRegistry

log = structlog.get_logger()

CHECK_SECONDS = 2.0
"""Time between two checks of the folder of declarations."""
STARTS_MAX = 8
"""Maximum models that start at the same time; more would only overload the broker with groups."""


@dataclasses.dataclass(frozen=True)
class SharedResources:
    """What all models of a process share."""

    settings: Settings
    producer: BatchProducer
    follower: ModelsFollower
    pipeline: AsyncPipeline
    loader_factory: LoaderFactory
    cache: ModelCache
    tracing: Tracing
    topic_ids: FindIds
    registry: SchemaRegistry | None = None


class Deployment:
    """One deployed model."""

    def __init__(self, shared: SharedResources, declaration: ModelDeclaration, text: bytes) -> None:
        """Connect the parts; raise `DeclarationError` or `PlanError` if they do not fit."""
        self.text = text
        self.declaration = declaration
        self._shared = shared
        service = declared_features.service_of(repository.load(shared.settings), declaration)
        service.check_inputs()
        declared_features.require(shared.settings.models, declaration, service)
        self.service = service
        self._feature_set = model_inputs.feature_set(declaration, service)
        pipeline = self._inference_pipeline(service)
        self.versions = pipeline.versions
        cloud_events = shared.settings.cloud_events == "all"
        clock = EventClock("scoring", shared.settings.event_ahead_seconds_max)
        self.predictor = OnlinePredictor(
            pipeline,
            shared.producer,
            cloud_events=cloud_events,
            label_encoder=declaration.label.wire_encoder(shared.registry),
            clock=clock,
        )
        agent = ScoringAgent(
            pipeline,
            shared.follower,
            shared.producer,
            record_bytes_max=shared.settings.record_bytes_max,
            cloud_events=cloud_events,
            tracing=shared.tracing,
            registry=shared.registry,
            clock=clock,
        )
        self._agent = agent
        self._watch = TopicWatch(shared.topic_ids)
        self.group = self._consumer_group(agent)
        self._stack = contextlib.AsyncExitStack()

    def _inference_pipeline(self, service: ServicePlan) -> InferencePipeline:
        shared, declaration = self._shared, self.declaration
        threads = ThreadLimits(declaration.limits.threads)
        load = shared.loader_factory(declaration, model_inputs.served(declaration, service))
        reader = OnlineReader(service, shared.pipeline)
        ranges = field_ranges.of_join_keys(service.views, declaration.request.fields)
        return InferencePipeline(
            declaration,
            RequestFeatures(
                declaration,
                service.join_keys,
                service.feature_names,
                reader,
                ranges,
                record_bytes_max=shared.settings.record_bytes_max,
                feature_set=self._feature_set.digest,
            ),
            ModelVersions(declaration.name, load, shared.cache, threads),
            ModelCalls(PredictionTask(declaration), threads),
        )

    def _consumer_group(self, agent: ScoringAgent) -> Group:
        limits = self.declaration.limits
        name = f"scoring.{self.declaration.name}"
        group = Group(
            self._shared.settings,
            name,
            slice_observer("scoring", f"driftline.{name}"),
            slice_records_max=limits.slice_records_max,
            in_flight_bytes_max=limits.in_flight_mib_max << 20,
            watch=self._watch,
        )
        group.slices([self.declaration.request.topic], agent.write_predictions, at_once=SLICES_AT_ONCE)
        return group

    async def start(self) -> None:
        """Create missing topics, publish the names of the features, then join the consumer group."""
        declaration = self.declaration
        await asyncio.to_thread(ensure_topics, self._shared.settings, {declaration.name: declaration})
        topic = declaration.request.topic
        ids = await self._watch.start([topic])
        self._agent.source = topic_identity.source_of(topic_identity.identity(topic, ids.get(topic)))
        await self._publish_feature_names()
        await self._stack.enter_async_context(self.versions.running())
        await self._stack.enter_async_context(self.predictor.running())
        self._shared.follower.add(self.versions)
        self._stack.callback(self._shared.follower.remove, declaration.name)
        await self._stack.enter_async_context(self.group.running())

    async def _publish_feature_names(self) -> None:
        """Publish the names to which predictions refer, before the first of them."""
        key = feature_sets.key_of(self._feature_set)
        if key not in self._shared.follower.feature_sets:
            record: Record = (key, records.encode(self._feature_set), [])
            await self._shared.producer.send(topics.MODELS.name, 0, [record])

    async def stop(self) -> None:
        """Finish the slices in progress, commit, leave the group."""
        await self._stack.aclose()

    @property
    def not_ready(self) -> str | None:
        """Why it can do nothing now. A model without a version can: it collects the features of requests."""
        return self.versions.not_ready if self.versions.router.answering else None

    @property
    def waiting(self) -> int:
        """Requests that have waited for their features for more than a second."""
        return self._agent.wait.waiting

    @property
    def is_loading(self) -> bool:
        """Whether its first versions are being loaded."""
        return not self.versions.is_settled

    @property
    def fault(self) -> str | None:
        """What is wrong with it, None if nothing is."""
        return self.group.failure or self.versions.fault


NewDeployment = Callable[[SharedResources, ModelDeclaration, bytes], Deployment]


class Deployments:
    """Follows the folder of declarations."""

    def __init__(self, shared: SharedResources, new_deployment: NewDeployment = Deployment) -> None:
        """Take what all models share; nothing starts before `running`."""
        self.deployed: dict[str, Deployment] = {}
        self._shared = shared
        self._new_deployment = new_deployment
        self._faults: dict[str, str] = {}
        """Why a model's current declaration is not in use, by model."""
        self._features = AppliedFeatures(shared.settings)
        self._start_slots = asyncio.Semaphore(STARTS_MAX)
        self._starting: dict[str, asyncio.Task[None]] = {}

    @property
    def predictors(self) -> dict[str, OnlinePredictor]:
        """The models that serve HTTP requests now, by name."""
        return {name: deployment.predictor for name, deployment in self.deployed.items()}

    @property
    def faults(self) -> dict[str, str]:
        """Why a model is not served as declared, by model."""
        found = {name: deployment.fault or self._features.fault for name, deployment in self.deployed.items()}
        return {name: fault for name, fault in found.items() if fault is not None} | self._faults

    @property
    def absent(self) -> dict[str, str]:
        """Why a declared model serves no HTTP requests now, by model; their reasons are in the readiness."""
        faulty = dict.fromkeys(self._faults, "cannot be started; the reason is in /health/ready")
        found = faulty | dict.fromkeys(self._starting, "is being started")
        return {name: reason for name, reason in found.items() if name not in self.deployed}

    @property
    def starting(self) -> list[str]:
        """The models that are being started, replaced or retired now."""
        return sorted(self._starting)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve what is declared, and follow changes until the block ends."""
        await self.reconcile()
        task = asyncio.create_task(self._follow(), name="deployments")
        try:
            yield
        finally:
            tasks = [task, *self._starting.values()]
            for each in tasks:
                each.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.gather(*(self._retire(name) for name in list(self.deployed)))

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            try:
                await self.reconcile()
            except Exception as error:  # noqa: BLE001  # the next check must happen whatever fails
                log.warning("fleet.look_failed", error=repr(error))

    async def reconcile(self) -> None:
        """Make the deployments equal to the declarations, each model in a separate task."""
        await self._features.refresh()
        texts = await asyncio.to_thread(_read_declarations, self._shared.settings.models)
        self._faults = {name: fault for name, fault in self._faults.items() if name in texts}
        for name in texts.keys() | self.deployed.keys():
            if name not in self._starting and not self._is_current(name, texts.get(name)):
                task = asyncio.create_task(self._deploy(name, texts.get(name)), name=f"start {name}")
                self._starting[name] = task
                task.add_done_callback(functools.partial(self._forget_start, name))
        faults = self.faults
        for name in texts:
            metrics.MODELS_BROKEN.labels(name).set(name in faults)

    def _is_current(self, name: str, text: bytes | None) -> bool:
        deployment = self.deployed.get(name)
        if deployment is None or deployment.group.recreated:  # it must read the new topic from its start
            return False
        if deployment.text != text or deployment.group.failure is not None:
            return False
        return self._features.defines(deployment.service)

    def _forget_start(self, name: str, task: asyncio.Task[None]) -> None:
        del self._starting[name]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("model.not_stopped", model=name, error=repr(error))  # a start shows its own errors

    async def _deploy(self, name: str, text: bytes | None) -> None:
        """Start, restart or retire one model; an error affects only this model."""
        if text is None:
            await self._retire(name)
            return
        try:
            async with self._start_slots:
                await self._replace(name, text)
        except Exception as error:  # noqa: BLE001  # shown, counted and retried; the other models continue
            if self._faults.get(name) != str(error):
                log.error("model.not_served", model=name, error=str(error))  # noqa: TRY400  # its owner needs the text
            self._faults[name] = str(error)
        else:
            self._faults.pop(name, None)
            log.info("model.served", model=name, digest=hashlib.sha256(text).hexdigest()[:12])

    async def _replace(self, name: str, text: bytes) -> None:
        declaration = await asyncio.to_thread(declaration_file.load_named, self._path(name))
        deployment = self._new_deployment(self._shared, declaration, text)
        await self._retire(name)
        try:
            await deployment.start()
        except BaseException:
            await deployment.stop()
            raise
        self.deployed[name] = deployment

    async def _retire(self, name: str) -> None:
        deployment = self.deployed.pop(name, None)
        if deployment is not None:
            await deployment.stop()
            log.info("model.retired", model=name)

    def _path(self, name: str) -> Path:
        return self._shared.settings.models / name / FILE


def _read_declarations(folder: Path) -> dict[str, bytes]:
    """Return the text of every declaration in a folder, by model."""
    return {path.parent.name: path.read_bytes() for path in sorted(folder.glob(f"*/{FILE}"))}
