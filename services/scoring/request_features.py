"""The features of requests: fields of the request itself and features of the online store."""

import dataclasses
import operator
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from services.feature_store.missing_values import MissingPolicy, with_missing
from services.feature_store.served_features import ServedFeatures
from services.model_registry.model_inputs import EXACT_MAX, exact_numbers
from services.runtime import metrics
from services.runtime.declaration import ModelDeclaration
from services.scoring import text_limits
from services.scoring.recent_rows import RecentRows
from services.scoring.scored_batch import EventTimes, FeatureColumns
from streams import codec, topics

_NUMERIC_TYPES = (codec.FieldType.INT, codec.FieldType.FLOAT, codec.FieldType.BOOL)


class FeatureReader(Protocol):
    """The part of `services.feature_store.online_reader.OnlineReader` that scoring uses."""

    async def read(
        self,
        entity_columns: Mapping[str, Sequence[Any]],
        event_times_ms: npt.NDArray[np.int64],
        events: Sequence[Any],
    ) -> ServedFeatures:
        """Return the features of n requests, each at its own event time."""

    async def wait_for(self, event_time_ms: int, timeout_seconds: float) -> bool:
        """Wait until all stream views are complete up to an event time; return False after the timeout."""


@dataclasses.dataclass(frozen=True, slots=True)
class FeatureRows:
    """The features of n requests."""

    columns: FeatureColumns
    missing: Mapping[str, npt.NDArray[np.bool_]]
    """(n,) by feature: where it is missing; only features that are missing in some row."""
    lag_ms: npt.NDArray[np.int64]


class RequestFeatures:
    """Reads the features of one model's requests."""

    def __init__(
        self,
        declaration: ModelDeclaration,
        join_keys: Sequence[str],
        feature_names: Sequence[str],
        reader: FeatureReader,
        ranges: codec.Ranges | None = None,
        *,
        record_bytes_max: int = topics.RECORD_BYTES_MAX,
        feature_set: str = "",
    ) -> None:
        """Prepare what is the same for every request.

        Args:
            declaration: The model's declaration.
            join_keys: The request fields by which features are read.
            feature_names: The features of the model's feature service, in order.
            reader: The reader of that service.
            ranges: Ranges of the request's fields, see `services.feature_store.field_ranges`.
            record_bytes_max: The setting, from which the limit of the predictions topic follows.
            feature_set: Digest of all features, see `streams.feature_sets`.
        """
        self.feature_set = feature_set
        self.ranges = ranges
        self.names = [*declaration.features.from_request, *feature_names]
        """The model's features, in order."""
        self.recent = RecentRows()
        self._model = declaration.name
        self._reader = reader
        self._join_keys = {key: operator.attrgetter(key) for key in join_keys}
        self._missing = MissingPolicy(declaration.features.missing, self.names)
        self._from_request = declaration.features.from_request
        types = {field.name: field.type for field in declaration.request.fields}
        self._whole = [name for name in self._from_request if types[name] is codec.FieldType.INT]
        self._numeric = self._whole + [
            name for name in self._from_request if types[name] in _NUMERIC_TYPES and name not in self._whole
        ]
        self._textual = [name for name in self._from_request if types[name] not in _NUMERIC_TYPES]
        self._numbers_of = operator.attrgetter(*self._numeric) if self._numeric else None
        store = [name for name in feature_names if name not in types]
        self._text_names = [
            name for name in self._from_request if types[name] is codec.FieldType.STRING
        ] + store
        self._characters_max = text_limits.characters_max(
            len(self.names) + text_limits.PROBABILITIES_OF_CLASS * len(declaration.classes), record_bytes_max
        )
        self._lag_seconds = metrics.FEATURES_LAG.labels(self._model)

    async def read(self, events: Sequence[Any], times_ms: EventTimes) -> FeatureRows:
        """Return the features of decoded requests, each at its event time; count what is missing."""
        entities = {key: list(map(key_of, events)) for key, key_of in self._join_keys.items()}
        served = await self._reader.read(entities, times_ms, events)
        columns, missing = with_missing(self._request_columns(events) | dict(served.columns))
        self._count(missing, served)
        self.recent.add(columns)
        return FeatureRows(columns, missing, served.lag_ms)

    def rejected(self, columns: FeatureColumns) -> dict[int, str]:
        """Return the rows that must not be predicted, each with the reason.

        Those that lack a feature for which model.yaml declares ``reject``, and those with so much text that
        the prediction could not be logged.
        """
        oversized = text_limits.oversized(columns, self._text_names, self._characters_max)
        return oversized | self._missing.refused(columns)

    def inputs(self, columns: FeatureColumns) -> FeatureColumns:
        """Return the features as the model gets them, with the declared values in place of missing ones."""
        return self._missing.fill(columns)

    async def wait_for(self, event_time_ms: int, timeout_seconds: float) -> bool:
        """Wait until the features have passed an event time; return whether they have by the timeout."""
        return await self._reader.wait_for(event_time_ms, timeout_seconds)

    def _request_columns(self, events: Sequence[Any]) -> FeatureColumns:
        columns: FeatureColumns = {}
        if self._numbers_of is not None:
            # One array for all: an array for each column costs more than the rest of a small slice.
            rows = np.array([self._numbers_of(event) for event in events], dtype=np.float64)  # None -> nan
            block = rows.reshape(len(events), -1).T.copy()
            columns |= zip(self._numeric, block, strict=True)
            if self._whole and _has_inexact(block[: len(self._whole)]):
                columns |= {
                    name: exact_numbers([getattr(event, name) for event in events]) for name in self._whole
                }
        for name in self._textual:
            columns[name] = np.array([getattr(event, name) for event in events], dtype=object)
        return {name: columns[name] for name in self._from_request}

    def _count(self, missing: Mapping[str, npt.NDArray[np.bool_]], served: ServedFeatures) -> None:
        for name, rows in missing.items():
            metrics.FEATURES_MISSING.labels(self._model, name).inc(int(np.count_nonzero(rows)))
        if served.beyond_retention:
            metrics.FEATURES_BEYOND_RETENTION.labels(self._model).inc(served.beyond_retention)
        self._lag_seconds.set(max(0, int(served.lag_ms.max(initial=0))) / 1000)


def _has_inexact(whole: npt.NDArray[np.float64]) -> bool:
    """Tell whether float64 may have rounded one of these whole numbers; nan is a missing one."""
    sizes = np.abs(whole)
    if sizes.max() < EXACT_MAX:  # as nearly always; False if one is missing
        return False
    return bool((sizes >= EXACT_MAX).any())
