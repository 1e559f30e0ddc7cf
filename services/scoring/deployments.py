"""The models of one installation: each served on its own, added, changed and removed while the others run.

Every model has a consumer group, threads and limits of its own. So one that is slow falls behind alone,
one that cannot be loaded waits alone, and a declaration that cannot be read takes only itself out of
service: its model goes on as it was declared before, if it was.
"""

import asyncio
import contextlib
import dataclasses
import functools
import hashlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from services.runtime import declaration_file, metrics
from services.runtime.declaration import FILE, ModelDeclaration
from services.runtime.settings import Settings
from services.scoring.inference import Scorer
from services.scoring.kafka_agent import SLICES_AT_ONCE, ScoringAgent
from services.scoring.model_cache import ModelCache, ModelSet
from services.scoring.model_loading import Loader
from services.scoring.models_follower import ModelFollower
from services.scoring.online_predictor import Endpoint
from services.scoring.thread_limits import Threads
from services.scoring.tracing import Tracing
from streams.groups import Group
from streams.producer import BatchProducer
from streams.schemas import Registry

if TYPE_CHECKING:
    from services.runtime.redis_pipeline import AsyncPipeline

log = structlog.get_logger()

LOOK_SECONDS = 2.0
LOAD_SECONDS_MAX = 30.0
"""For which a process that starts is not ready because of one model's versions."""
STARTS_MAX = 8
"""Models starting at once: more would only make the broker busy with groups."""


@dataclasses.dataclass(frozen=True)
class Collaborators:
    """What all models of a process share."""

    settings: Settings
    producer: BatchProducer
    follower: ModelFollower
    pipeline: "AsyncPipeline"
    loader: Loader
    cache: ModelCache
    tracing: Tracing
    registry: Registry | None = None


class Member:
    """One model that is served."""

    def __init__(self, shared: Collaborators, declaration: ModelDeclaration, text: bytes) -> None:
        """Wire it; raise `DeclarationError` or `PlanError` for what cannot be."""
        from services.feature_store import repository
        from services.feature_store.online_reader import OnlineReader
        from services.model_registry import model_inputs

        self.text = text
        self.declaration = declaration
        service = repository.load(shared.settings).service(declaration.features.service)
        service.check_inputs()
        limits = declaration.limits
        threads = Threads(limits.threads)
        self._shared = shared
        load = shared.loader(declaration, model_inputs.served(declaration, service))
        self.models = ModelSet(declaration.name, load, shared.cache, threads)
        scorer = Scorer(
            declaration,
            service.join_keys,
            service.feature_names,
            OnlineReader(service, shared.pipeline),
            self.models,
            threads,
        )
        cloud_events = shared.settings.cloud_events == "all"
        self.endpoint = Endpoint(
            scorer,
            shared.producer,
            cloud_events=cloud_events,
            label_encoder=declaration.label.wire_encoder(shared.registry),
        )
        agent = ScoringAgent(
            scorer,
            shared.follower,
            shared.producer,
            record_bytes_max=shared.settings.record_bytes_max,
            cloud_events=cloud_events,
            tracing=shared.tracing,
            registry=shared.registry,
        )
        name = f"scoring.{declaration.name}"
        self.group = Group(
            shared.settings,
            name,
            metrics.slice_observer("scoring", f"driftline.{name}"),
            slice_records_max=limits.slice_records_max,
            in_flight_bytes_max=limits.in_flight_mib_max << 20,
        )
        self.group.slices([declaration.request.topic], agent.write_predictions, at_once=SLICES_AT_ONCE)
        self._stack = contextlib.AsyncExitStack()
        self._patient_until = time.monotonic() + LOAD_SECONDS_MAX

    async def start(self) -> None:
        """Make sure of the topics, then join the group."""
        from services.runtime.topic_creation import ensure_topics

        declaration = self.declaration
        await asyncio.to_thread(ensure_topics, self._shared.settings, {declaration.name: declaration})
        await self._stack.enter_async_context(self.models.running())
        await self._stack.enter_async_context(self.endpoint.running())
        self._shared.follower.add(self.models)
        self._stack.callback(self._shared.follower.remove, declaration.name)
        await self._stack.enter_async_context(self.group.running())

    async def stop(self) -> None:
        """Finish the slices in work, commit, leave."""
        await self._stack.aclose()

    @property
    def is_loading(self) -> bool:
        """Tell whether its first versions are still to come; after a while nobody waits for them any more."""
        return not self.models.is_settled and time.monotonic() < self._patient_until

    @property
    def fault(self) -> str | None:
        """What is wrong with it, if anything is."""
        return self.group.failure or self.models.fault


class Fleet:
    """Follows the folder of declarations."""

    def __init__(self, shared: Collaborators) -> None:
        """Take what all models share; nothing starts before `running`."""
        self.members: dict[str, Member] = {}
        self._shared = shared
        self._faults: dict[str, str] = {}
        """Of declarations that are not in use."""
        self._starts = asyncio.Semaphore(STARTS_MAX)
        self._starting: dict[str, asyncio.Task[None]] = {}

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        """By model, what answers now over HTTP."""
        return {name: member.endpoint for name, member in self.members.items()}

    @property
    def faults(self) -> dict[str, str]:
        """By model, what keeps it from being served as declared."""
        own = {name: member.fault for name, member in self.members.items()}
        return {name: fault for name, fault in own.items() if fault is not None} | self._faults

    @property
    def waiting(self) -> str | None:
        """Tell what is still to come until every model that can be served is, None if nothing."""
        if self._starting:
            return f"models are being started: {', '.join(sorted(self._starting))}"
        unassigned = sorted(name for name, member in self.members.items() if not member.group.assigned)
        if unassigned:
            return f"waiting for partitions: {', '.join(unassigned)}"
        if loading := sorted(name for name, member in self.members.items() if member.is_loading):
            return f"models are being loaded: {', '.join(loading)}"
        return None if self.members else "no model is served"

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve what is declared, and look for changes until the block ends."""
        await self._look()
        task = asyncio.create_task(self._keep_looking(), name="fleet")
        try:
            yield
        finally:
            tasks = [task, *self._starting.values()]
            for each in tasks:
                each.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.gather(*(self._retire(name) for name in list(self.members)))

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self._look()
            except Exception as error:  # noqa: BLE001  # the next look must come, whatever went wrong
                log.warning("fleet.look_failed", error=repr(error))

    async def _look(self) -> None:
        """Bring what is served in line with what is declared, each model in a task of its own."""
        texts = await asyncio.to_thread(_texts, self._shared.settings.models)
        self._faults = {name: fault for name, fault in self._faults.items() if name in texts}
        for name in texts.keys() | self.members.keys():
            if name not in self._starting and not self._is_served(name, texts.get(name)):
                task = asyncio.create_task(self._follow(name, texts.get(name)), name=f"start {name}")
                self._starting[name] = task
                task.add_done_callback(functools.partial(self._started, name))
        faults = self.faults
        for name in texts:
            metrics.MODELS_BROKEN.labels(name).set(name in faults)

    def _is_served(self, name: str, text: bytes | None) -> bool:
        member = self.members.get(name)
        return member is not None and member.text == text and member.group.failure is None

    def _started(self, name: str, _task: asyncio.Task[None]) -> None:
        del self._starting[name]

    async def _follow(self, name: str, text: bytes | None) -> None:
        """Start, restart or end one model; its faults are its own."""
        if text is None:
            await self._retire(name)
            return
        try:
            async with self._starts:
                declaration = await asyncio.to_thread(declaration_file.load_named, self._path(name))
                member = Member(self._shared, declaration, text)
                await self._retire(name)
                try:
                    await member.start()
                except BaseException:
                    await member.stop()
                    raise
                self.members[name] = member
        except Exception as error:  # noqa: BLE001  # told, counted and tried again; the others go on
            if self._faults.get(name) != str(error):
                log.error("model.not_served", model=name, error=str(error))  # noqa: TRY400  # told to its owner
            self._faults[name] = str(error)
        else:
            self._faults.pop(name, None)
            log.info("model.served", model=name, digest=hashlib.sha256(text).hexdigest()[:12])

    async def _retire(self, name: str) -> None:
        member = self.members.pop(name, None)
        if member is not None:
            await member.stop()
            log.info("model.retired", model=name)

    def _path(self, name: str) -> Path:
        return self._shared.settings.models / name / FILE


def _texts(folder: Path) -> dict[str, bytes]:
    """Return every declaration below a folder as it stands, by the name of its folder."""
    return {path.parent.name: path.read_bytes() for path in sorted(folder.glob(f"*/{FILE}"))}
