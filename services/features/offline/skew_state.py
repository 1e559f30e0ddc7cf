"""What the skew check of one model keeps between passes, in ``skew/<model>.json`` in the home folder."""

import dataclasses
import hashlib
import os
from pathlib import Path

import msgspec

from services.feature_store.plan import ServicePlan
from services.features.offline.archived_events import EventArchive
from services.features.offline.materialized_rows import Seen
from services.features.offline.skew_report import FeatureSkew, SkewReport
from services.features.offline.watermark_index import IndexEntry
from services.monitoring import inference_log
from streams import topics

_FORMAT = 2
"""Format of the state; another format is replaced by a new state that begins after all archived records."""


class SkewState(msgspec.Struct):
    """The report so far, and how far the archive has been read."""

    report: SkewReport
    definition: str
    """Digest of the views: values served by other definitions cannot be recomputed by these."""
    next_offsets: dict[int, int] = {}
    """Next prediction to compare, by partition."""
    index: dict[str, dict[int, list[IndexEntry]]] = msgspec.field(name="marks", default_factory=dict)
    """Index entries by topic and partition, in order; the last entry is how far the archive has been read."""
    materialized: dict[str, Seen] = {}
    """Seen materialisations by batch view."""


class SkewStateFile:
    """Loads and saves the state of one model."""

    def __init__(self, path: Path, model: str, service: ServicePlan) -> None:
        """Take the file, the model's name and its feature service."""
        self._path = path
        self._model = model
        self._service = service
        self._definition = definition_digest(service)

    def load(self, archive: EventArchive) -> SkewState:
        """Return the stored state, or a new one if the archive was replaced or the definitions changed.

        After a change of definitions the new state begins after the archived predictions.
        """
        state = self._read()
        topic = topics.predictions(self._model)
        positions = {
            number: archive.position(inference_log.PREDICTIONS, topic, number)
            for number in {*state.next_offsets, *archive.prediction_partitions(self._model)}
        }
        if any(positions[number] < offset for number, offset in state.next_offsets.items()):
            return self._new()
        if state.definition != self._definition:
            changed = self._new()
            changed.next_offsets = positions
            return changed
        return state

    def save(self, state: SkewState) -> None:
        """Replace the file atomically."""
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}.tmp")
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(state)))
        temporary.replace(self._path)

    def _read(self) -> SkewState:
        if self._path.is_file():
            return msgspec.json.decode(self._path.read_bytes(), type=SkewState)
        return self._new()

    def _new(self) -> SkewState:
        features = [FeatureSkew(view=r.view, feature=r.feature) for r in self._service.references]
        return SkewState(SkewReport(model=self._model, features=features), self._definition)


def definition_digest(service: ServicePlan) -> str:
    """Return a digest of everything that served values depend on."""
    views = [dataclasses.replace(view, batch_file=None) for view in service.views]
    own = [service.own_event] if service.own_views else []
    return hashlib.sha256(msgspec.json.encode([_FORMAT, service.references, views, *own])).hexdigest()
