"""Reads the sampled predictions of one model, with their requests, in the order of event time."""

import dataclasses
from typing import Any

from services.feature_store.plan import ServicePlan
from services.features.offline.archived_events import EventArchive, ServedPrediction
from services.features.offline.skew_state import SkewState
from services.model_registry import model_inputs
from services.monitoring import inference_log
from services.runtime import schema_registry_client
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import Settings
from streams import topics
from streams.records import FeatureValue

LATEST_MS = 2**62
"""An event time after all others."""
_BUCKETS = 2**32


@dataclasses.dataclass(frozen=True)
class SampledRequest:
    """A sampled request with the features that were served for it."""

    prediction_id: str
    event_time_ms: int
    scored_time_ms: int
    request: Any
    served: list[FeatureValue]


@dataclasses.dataclass(frozen=True)
class _Page:
    """The next sampled predictions of a partition."""

    rows: list[ServedPrediction]
    next_offset: int
    """The offset to continue from once all rows are compared."""


class PredictionSample:
    """Reads the sample of one model page by page, all partitions at the same event time."""

    def __init__(
        self, settings: Settings, declaration: ModelDeclaration, service: ServicePlan, requests_max: int
    ) -> None:
        """Take the share of requests from the settings, and the maximum requests of one page."""
        self._model = declaration.name
        self._request_topic = declaration.request.topic
        self._decoder = declaration.request.wire_decoder(schema_registry_client.connect(settings))
        self._from_request = len(declaration.features.from_request)
        self._width = self._from_request + len(service.references)
        self._feature_set = model_inputs.feature_set(declaration, service).digest
        self._id_bound = sample_bound(settings.skew_share)
        self._requests_max = requests_max

    def read(self, archive: EventArchive, state: SkewState, complete_ms: int) -> list[SampledRequest]:
        """Return the next requests of each partition, up to the first that is not complete.

        Advances ``state.next_offsets``, and counts requests in its report that cannot be compared.
        """
        requests: list[SampledRequest] = []
        pages, until_ms = self._pages(archive, state)
        for partition, page in pages.items():
            next_offset = page.next_offset
            for row in page.rows:
                if row.event_time_ms > min(complete_ms, until_ms) or self._is_awaited(archive, row):
                    next_offset = row.offset
                    break
                if row.request is None or not self._is_declared(row):
                    state.report.unreadable += 1
                elif row.features_lag_ms != 0:
                    state.report.behind += 1
                else:
                    requests.append(self._decode(row))
            state.next_offsets[partition] = next_offset
        return requests

    def _pages(self, archive: EventArchive, state: SkewState) -> tuple[dict[int, _Page], int]:
        """Return the next page of each partition, and the event time up to which all pages are complete.

        No partition is read beyond that time, so that all of them move through time together.
        """
        partitions = archive.prediction_partitions(self._model)
        rows_max = max(1, self._requests_max // max(1, len(partitions)))
        pages: dict[int, _Page] = {}
        until_ms = LATEST_MS
        for partition in partitions:
            start = state.next_offsets.get(partition, 0)
            next_offset = archive.position(
                inference_log.PREDICTIONS, topics.predictions(self._model), partition
            )
            rows = archive.served(
                self._model, self._request_topic, partition, start, self._id_bound, rows_max
            )
            if len(rows) == rows_max:
                next_offset = rows[-1].offset + 1
                until_ms = min(until_ms, max(row.event_time_ms for row in rows))
            pages[partition] = _Page(rows, next_offset)
        return pages, until_ms

    def _is_awaited(self, archive: EventArchive, row: ServedPrediction) -> bool:
        """Tell whether the request of a prediction has yet to be archived."""
        if row.request is not None:
            return False
        archived = archive.position(inference_log.EVENTS, self._request_topic, row.source_partition)
        return archived <= row.source_offset

    def _is_declared(self, row: ServedPrediction) -> bool:
        """Tell whether a row holds just the features that are declared now, in order, as defined now."""
        return len(row.numbers) == self._width and row.feature_set in (None, "", self._feature_set)

    def _decode(self, row: ServedPrediction) -> SampledRequest:
        values = zip(row.numbers[self._from_request :], row.texts[self._from_request :], strict=True)
        served = [number if text is None else text for number, text in values]
        request = self._decoder.decode(row.request)
        return SampledRequest(row.prediction_id, row.event_time_ms, row.scored_time_ms, request, served)


def sample_bound(share: float) -> str:
    """Return the text below which the MD5 of a sampled id is, both as hexadecimal digits.

    So the sample holds the same requests in every process, version and language, and in SQL.

    >>> sample_bound(0.25)
    '40000000'
    """
    return "g" if share >= 1 else f"{round(share * _BUCKETS):08x}"
