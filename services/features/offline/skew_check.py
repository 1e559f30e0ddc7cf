"""The skew check of one model: recompute the features of a sample of its predictions, and compare.

Stream views are recomputed from the archived events, batch views from the files of their sources (see
`services.features.offline.materialized_rows`).

A prediction is compared once it is complete: its request is archived, and the archive holds every source up
to its event time (by the watermarks that follow from events and heartbeats). The state (report, offsets, an
index of the archive) is stored in ``skew/<model>.json`` in the home folder, replaced atomically after each
pass; so a killed check repeats one pass at most. Beside it, ``skew/<model>.sqlite`` holds the past events
that views without a time to live need.

A pass reads the predictions that it compares and the events of that time: it starts before its first request
by the time to live, or by the window. If requests are out of order by more than `SkewLimits.disorder_ms`, a
source that feeds views without a time to live is read from its start.

Memory: a pass compares at most `SkewLimits.requests_max` requests; their events are sorted on disk.
"""

import contextlib
import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from services.feature_store import declared_features, repository
from services.feature_store.plan import FeaturePlan, Materialized, ServicePlan
from services.features.decoder import SourceDecoder, source_decoder
from services.features.offline import materialized_rows, watermark_index
from services.features.offline.archived_events import EventArchive
from services.features.offline.newest_events import NewestEvents
from services.features.offline.prediction_sample import LATEST_MS, PredictionSample
from services.features.offline.recomputation import Recomputation, SourceViews
from services.features.offline.skew_report import ComparisonResult, SkewReport
from services.features.offline.skew_state import SkewState, SkewStateFile
from services.features.offline.watermark_index import IndexEntry, IndexSpacing, OffsetRange
from services.features.view_state import ViewLogic
from services.runtime import metrics
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import Settings
from services.runtime.watermarks import NEVER


@dataclasses.dataclass(frozen=True)
class SkewLimits:
    """Bounds of one pass."""

    requests_max: int = 2000
    """Maximum requests that are compared together."""
    disorder_ms: int = 3_600_000
    """How much older a request may be than those compared before, without reading a source from its start."""
    spacing: IndexSpacing = dataclasses.field(default_factory=IndexSpacing)


_DEFAULT_LIMITS = SkewLimits()


class SkewCheck:
    """Checks one model; each run compares what has become complete since the last one."""

    def __init__(
        self,
        settings: Settings,
        plan: FeaturePlan,
        declaration: ModelDeclaration,
        partitions: Mapping[str, int],
        limits: SkewLimits = _DEFAULT_LIMITS,
    ) -> None:
        """Prepare; nothing is read before `run`.

        Args:
            settings: Where the archive is, and the share of requests to compare.
            plan: The applied repository.
            declaration: The model.
            partitions: Number of partitions of each source topic: the check waits for a partition that has no
                archived records yet.
            limits: Bounds of one pass.
        """
        self._settings = settings
        self._partitions = partitions
        self._limits = limits
        self._service = declared_features.service_of(plan, declaration)
        self._sources = _by_source(settings, plan, self._service)
        self._sample = PredictionSample(settings, declaration, self._service, limits.requests_max)
        self._path = settings.home / "skew" / f"{declaration.name}.json"
        self._state_file = SkewStateFile(self._path, declaration.name, self._service)

    def run(self) -> SkewReport:
        """Compare what has become complete; return the report so far. Raise `ArchiveError` without events."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(prefix="skew-", dir=self._settings.home) as folder,
            contextlib.closing(EventArchive(self._settings, Path(folder))) as archive,
            NewestEvents(self._path.with_suffix(".sqlite")) as newest,
        ):
            state = self._state_file.load(archive)
            if not state.index:
                newest.clear()
            before = msgspec.json.decode(msgspec.json.encode(state.report), type=SkewReport)
            recomputation = Recomputation(
                self._service,
                self._sources,
                archive,
                newest,
                Path(folder),
                state,
                self._materialized(state),
                self._limits.disorder_ms,
            )
            self._compare_complete(archive, state, recomputation)
        publish_metrics(before, state.report)
        return state.report

    def _compare_complete(
        self, archive: EventArchive, state: SkewState, recomputation: Recomputation
    ) -> None:
        """Compare pass by pass until no complete request is left."""
        complete_ms = min(
            (self._update_index(archive, state, decoder) for decoder, _ in self._sources), default=LATEST_MS
        )
        before: dict[int, int] | None = None
        while state.next_offsets != before:
            before = dict(state.next_offsets)
            if requests := self._sample.read(archive, state, complete_ms):
                for row, values in zip(requests, recomputation.rows(requests), strict=True):
                    state.report.compare(row.prediction_id, row.event_time_ms, row.served, values)
            self._state_file.save(state)

    def _materialized(self, state: SkewState) -> dict[str, Materialized]:
        """Return the materialisations of each batch view so far, and record them in the state."""
        batch = [view.name for view in self._service.views if not view.is_stream]
        known = repository.load(self._settings).materialized if batch else {}
        found = {name: known[name] for name in batch if name in known}
        for name, materialized in found.items():
            seen = state.materialized.get(name, [])
            state.materialized[name] = materialized_rows.record_seen(seen, materialized)
        return found

    def _update_index(self, archive: EventArchive, state: SkewState, decoder: SourceDecoder) -> int:
        """Index the new records of a source; return the event time up to which it is complete."""
        topic = decoder.source.topic
        index = state.index.setdefault(topic, {})
        for partition in archive.partitions(topic):
            index.setdefault(partition, [IndexEntry()])
        new = {number: OffsetRange(entries[-1], None) for number, entries in index.items()}
        for batch in archive.decode(decoder, new):
            watermark_index.add_entry(index[batch.partition], batch.end, self._limits.spacing)
        if len(index) < self._partitions[topic]:
            return NEVER
        return min(entries[-1].watermark_ms for entries in index.values()) - decoder.source.lateness_ms


def publish_metrics(before: SkewReport, report: SkewReport) -> None:
    """Add the difference between two reports to the metrics."""
    for result in ("checked", "behind", "unreadable"):
        new = getattr(report, result) - getattr(before, result)
        metrics.SKEW_REQUESTS.labels(report.model, result).inc(new)
    if report.checked_until_ms is not None:
        metrics.SKEW_CHECKED_UNTIL.labels(report.model).set(report.checked_until_ms / 1000)
    for was, item in zip(before.features, report.features, strict=True):
        for kind in ComparisonResult:
            new = getattr(item, kind) - getattr(was, kind)
            metrics.SKEW_VALUES.labels(report.model, item.feature, kind).inc(new)
        metrics.SKEW_DISTANCE.labels(report.model, item.feature).set(item.distance_max)
        metrics.SKEW_SMAPE.labels(report.model, item.feature).set(item.smape)


def _by_source(settings: Settings, plan: FeaturePlan, service: ServicePlan) -> list[SourceViews]:
    """Return each source of the service with its views."""
    found: dict[str, SourceViews] = {}
    for view in service.views:
        if view.source is not None:
            fresh = (source_decoder(plan, view.source.topic, settings), list[ViewLogic]())
            found.setdefault(view.source.topic, fresh)[1].append(ViewLogic(plan.project, view))
    return list(found.values())
