"""One FeatureService as commands to the online store, and the replies as served features. No I/O."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from services.feature_store.entity_reader import Entities, EntityGroup
from services.feature_store.plan import Column, ServicePlan, View
from services.feature_store.served_features import AnyArray, Int64s, ServedFeatures, ServedView
from services.runtime import watermarks


@dataclasses.dataclass(frozen=True)
class ReadRequest:
    """The commands that read n rows, and what is needed to decode their replies."""

    batches: tuple[list[bytes], list[bytes]]
    """The watermarks, then the rows. In this order every event up to a watermark is in the rows."""
    entities: list[Entities]
    """The entities of each group of views with the same join keys."""
    times_ms: Int64s
    """(n,): the event times of the rows."""
    events: Sequence[Any] | None = None
    """(n,): the requests themselves, if they count in their own features."""


class ServiceCodec:
    """Encodes the reads of one FeatureService and decodes the replies."""

    def __init__(self, service: ServicePlan, *, detailed: bool) -> None:
        """Compile the commands; see `services.feature_store.online_reader.OnlineReader` for ``detailed``."""
        self._stream_views = service.stream_views
        self._groups = [
            EntityGroup(service.project, views, detailed=detailed, own_event=service.own_event)
            for views in _by_join_keys(service.views)
        ]
        self._references = {
            f"{reference.view}__{reference.feature}" if detailed else reference.feature: (
                reference.view,
                reference.feature,
            )
            for reference in service.references
        }
        marks = [watermarks.of_view(service.project, name) for name in self._stream_views]
        self._watermark_commands = [watermarks.first_command(mark) for mark in marks]

    def encode(
        self,
        entity_columns: Mapping[str, Sequence[Any]],
        times_ms: Int64s,
        events: Sequence[Any] | None = None,
    ) -> ReadRequest:
        """Encode the read of n rows; KeyError for a missing entity column."""
        entities = [group.encode(entity_columns) for group in self._groups]
        rows = list(itertools.chain.from_iterable(distinct.commands for distinct in entities))
        return ReadRequest((self._watermark_commands, rows), entities, times_ms, events)

    def decode(self, request: ReadRequest, replies: Sequence[Any]) -> ServedFeatures:
        """Decode the replies, one for each command, in order."""
        position = len(self._stream_views)
        watermarks_ms = [watermarks.first(reply) for reply in replies[:position]]
        served: dict[tuple[str, str], AnyArray] = {}
        views: dict[str, ServedView] = {}
        beyond = np.zeros(len(request.times_ms), dtype=np.bool_)
        for group, entities in zip(self._groups, request.entities, strict=True):
            rows = replies[position : position + entities.size]
            position += entities.size
            group.serve(rows, entities, request.times_ms, beyond, served, views, request.events)
        return ServedFeatures(
            columns={name: served[reference] for name, reference in self._references.items()},
            lag_ms=_lag_ms(watermarks_ms, request.times_ms),
            beyond_retention=int(np.count_nonzero(beyond)),
            watermarks_ms=dict(zip(self._stream_views, watermarks_ms, strict=True)),
            views=views,
        )


def _lag_ms(watermarks_ms: Sequence[int | None], times_ms: Int64s) -> Int64s:
    known = [watermark_ms for watermark_ms in watermarks_ms if watermark_ms is not None]
    if len(known) < len(watermarks_ms):
        return np.full(len(times_ms), -1, dtype=np.int64)
    return np.maximum(times_ms - min(known), 0) if known else np.zeros(len(times_ms), dtype=np.int64)


def _by_join_keys(views: Sequence[View]) -> list[list[View]]:
    """Group views by entity: those of one entity share its hash."""
    groups: dict[tuple[Column, ...], list[View]] = {}
    for view in views:
        groups.setdefault(view.join_keys, []).append(view)
    return list(groups.values())
