"""The models of a process that keeps snapshots, each separate: an error of one of them stops no other.

Every piece of work for one model runs in `GuardedModels.attempt`. An error there that is no outage drops the
state of this model in memory, and `refresh` restores it from its last snapshot. `services.runtime.quarantine`
decides what is rejected or set aside. Outages end the session, for all models.

Any number of workers share the models. Each works on those that it owns, see
`services.runtime.model_ownership`.
"""

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

import structlog
from kafka.errors import TopicAuthorizationFailedError

from services.monitoring.prediction_source import PredictionSource, PredictionSourceReader
from services.runtime.declaration import ModelDeclaration
from services.runtime.declaration_file import DeclarationFolder
from services.runtime.quarantine import Quarantine, RecordPlace, is_defect
from services.runtime.snapshots import SnapshotPace
from streams.defects import panics_as_errors
from streams.inputs import LABEL, PREDICTION, Item

REFRESH_SECONDS = 1.0
"""Time between two checks of the files of the models and at those that were set aside."""
GROWTH_SECONDS = 5.0
"""Time between two checks of the number of partitions, which the consumer asks for every half minute."""
CAREFUL_SNAPSHOT_SECONDS = 0.5
"""Minimum time between the snapshots of a suspected model: the next attempt starts close to the error."""

_log = structlog.get_logger()


class GuardedModel(Protocol):
    """One model with its state."""

    name: str
    source: PredictionSource
    pace: SnapshotPace

    @property
    def frontier_ms(self) -> int | None:
        """The event time up to which records are processed."""

    def suspects(self) -> list[Item]:
        """Return the records that were in process at an error."""

    def topic_of(self, kind: int) -> str:
        """Return the topic of the records of a kind."""

    def close(self) -> None:
        """Close the files; the model is not used any more."""


Model = TypeVar("Model", bound=GuardedModel)
Result = TypeVar("Result")
Parameters = ParamSpec("Parameters")
Select = Callable[[Mapping[str, ModelDeclaration]], Mapping[str, ModelDeclaration]]


class ModelOpener(Protocol[Model]):
    """Restores models from their snapshots. Each error of these methods is one of the models given."""

    def prepare(self, declarations: Mapping[str, ModelDeclaration]) -> Mapping[str, Any]:
        """Create the topics of some models, and return for each what `open` needs, read in one go."""

    def open(self, declaration: ModelDeclaration, found: Any) -> Model:
        """Return a model that continues from its last snapshot."""

    def keep(self, model: Model) -> None:
        """Write a snapshot of a model."""


class Ownership(Protocol):
    """Which models this worker owns: `model_ownership.ModelOwnership`."""

    def declare(self, names: Collection[str]) -> None:
        """Take the names of all declared models."""

    def owns(self, model: str) -> bool:
        """Return whether this worker owns a model."""

    def renew(self) -> bool:
        """Take part in the group; return whether the owned models have changed since `release`."""

    def release(self) -> None:
        """Declare that no model is open that this worker does not own."""


class _OwnedDeclarations:
    """The declarations of the models that this worker owns."""

    def __init__(
        self, folder: DeclarationFolder, quarantine: Quarantine, ownership: Ownership, select: Select
    ) -> None:
        self._folder = folder
        self._quarantine = quarantine
        self._ownership = ownership
        self._select = select

    def refresh(self, now_seconds: float) -> tuple[frozenset[str], dict[str, ModelDeclaration]]:
        """Return the models whose files have changed, and the declarations; forget all other models."""
        changed = frozenset(self._folder.refresh())
        for name in changed:
            self._quarantine.changed(name)
        selected, owns = self._select(self._folder.valid), self._ownership.owns
        self._ownership.declare(selected)
        declared = {name: each for name, each in selected.items() if owns(name)}
        faults = {name: fault for name, fault in self._folder.faults.items() if owns(name)}
        self._quarantine.declare(declared, faults, now_seconds)
        self._quarantine.owned.replace({*declared, *faults})
        return changed, declared


class GuardedModels(Generic[Model]):
    """Opens the declared models that this worker owns, drops those that fail, and opens them again."""

    def __init__(
        self,
        folder: DeclarationFolder,
        quarantine: Quarantine,
        opener: ModelOpener[Model],
        reader: PredictionSourceReader,
        ownership: Ownership,
        select: Select = dict,
    ) -> None:
        """Open nothing before `refresh`.

        Args:
            folder: The declared models.
            quarantine: The records and models that are isolated.
            opener: Restores models and writes their snapshots.
            reader: Reads the inputs of all open models.
            ownership: Says which models are this worker's own.
            select: Returns those of the declared models that concern this kind of worker.
        """
        self._declarations = _OwnedDeclarations(folder, quarantine, ownership, select)
        self._quarantine = quarantine
        self._opener = opener
        self._reader = reader
        self._ownership = ownership
        self._open: dict[str, Model] = {}
        self._has_dropped = False
        self._refreshed_seconds = self._grown_seconds = -math.inf

    def __iter__(self) -> Iterator[Model]:
        """Iterate over the open models; the caller may drop some during the iteration."""
        return iter(list(self._open.values()))

    def attempt(
        self,
        name: str,
        work: Callable[Parameters, Result],
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> Result | None:
        """Do work of one model and return its result; None if the model is not open, or fails and is dropped.

        Raises outages, and the stop of the process.
        """
        if name not in self._open:
            return None
        try:
            with panics_as_errors():
                return work(*args, **kwargs)
        except Exception as error:
            if not is_defect(error):
                raise
            self._drop(name, error)
            return None

    def read(self) -> bool:
        """Pass one slice of each partition to the models; return whether there was one."""
        return bool(self._where_allowed(self._reader.read, self.attempt))

    def refresh(self) -> None:
        """Open models that are declared and due; reopen those that have changed. Call it before each step."""
        now_seconds = time.monotonic()
        is_due = self._has_dropped or now_seconds - self._refreshed_seconds >= REFRESH_SECONDS
        if not self._ownership.renew() and not is_due:
            return
        self._refreshed_seconds = now_seconds
        changed, declared = self._declarations.refresh(now_seconds)
        was_open = dict(self._open)
        for name in (
            (changed & self._open.keys()) | (self._open.keys() - declared.keys()) | self._grown(now_seconds)
        ):
            self.reopen(name)
        self._ownership.release()
        self._open_due(declared, now_seconds)
        if self._has_dropped or was_open != self._open:
            self._has_dropped = False
            sources = {name: model.source for name, model in self._open.items()}
            self._where_allowed(self._reader.follow, sources)

    def keep_due(self) -> None:
        """Write the snapshots that are due, and note which models work."""
        now_seconds = time.monotonic()
        for model in self:
            self._quarantine.works(model.name, now_seconds)
            is_due = model.pace.due(now_seconds) or (
                self._quarantine.care(model.name) is not None
                and model.pace.progressed
                and now_seconds - model.pace.taken_seconds >= CAREFUL_SNAPSHOT_SECONDS
            )
            if is_due:
                self.attempt(model.name, self._keep, model)

    def keep_all(self) -> None:
        """Write the last snapshots of all models."""
        for model in self:
            if model.pace.progressed:
                self.attempt(model.name, self._keep, model)

    def _keep(self, model: Model) -> None:
        self._opener.keep(model)
        self._quarantine.passed(model.name, model.frontier_ms)

    def _where_allowed(
        self, work: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Result | None:
        """Do work for all models; set those aside whose topics the broker does not let this process read."""
        try:
            return work(*args, **kwargs)
        except TopicAuthorizationFailedError as error:
            refused: set[str] = set(*error.args[:1])
            models = [each for each in self if refused & set(map(each.source.topic_of, (PREDICTION, LABEL)))]
            if not models:
                raise
            for model in models:
                reason = (
                    f"the broker denies this process reading {', '.join(sorted(refused))}: grant the right "
                    "to read"
                )
                self._quarantine.set_aside(model.name, reason, time.monotonic())
                del self._open[model.name]
                model.close()
            self._has_dropped = True
            return None

    def _grown(self, now_seconds: float) -> set[str]:
        if now_seconds - self._grown_seconds < GROWTH_SECONDS:
            return set()
        self._grown_seconds = now_seconds
        return set(self._reader.grown()) & self._open.keys()

    def _open_due(self, declared: Mapping[str, ModelDeclaration], now_seconds: float) -> None:
        due = {
            name: declaration
            for name, declaration in declared.items()
            if name not in self._open and self._quarantine.is_due(name, now_seconds)
        }
        for name, found in self._prepared(due, now_seconds).items():
            self._ownership.renew()  # opening may take long, and others wait for this worker
            if not self._ownership.owns(name):
                continue
            model = self._quarantine.open(name, now_seconds, self._opener.open, due[name], found)
            if model is not None:
                self._open[name] = model

    def _prepared(self, due: Mapping[str, ModelDeclaration], now_seconds: float) -> Mapping[str, Any]:
        """Prepare models together; if that fails, each alone."""
        if len(due) > 1:
            try:
                return self._opener.prepare(due)
            except Exception as error:
                if not is_defect(error):
                    raise
        prepared: dict[str, Any] = {}
        for name, declaration in due.items():
            one = {name: declaration}
            prepared |= self._quarantine.open(name, now_seconds, self._opener.prepare, one) or {}
        return prepared

    def reopen(self, name: str) -> None:
        """Close a model after a last snapshot, from which `refresh` opens it again if it is declared."""
        self._has_dropped = True
        model = self._open.get(name)
        if model is not None and model.pace.progressed:
            self.attempt(name, self._keep, model)
        if (model := self._open.pop(name, None)) is not None:  # the snapshot may have dropped it
            model.close()

    def close(self) -> None:
        """Close all models, without snapshots."""
        for model in self:
            model.close()
        self._open.clear()

    def _drop(self, name: str, error: Exception) -> None:
        model = self._open.pop(name)
        self._has_dropped = True
        suspects = [
            RecordPlace(model.topic_of(each.kind), each.partition, each.offset) for each in model.suspects()
        ]
        self._quarantine.failed(name, error, suspects, model.frontier_ms, time.monotonic())
        model.close()
