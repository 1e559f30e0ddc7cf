"""Which arm answers which request. Pure: a function of the declared arms and of the request alone.

An arm is chosen by the request's event time, not by when it arrives, and by its key: so a replay, a
restarted worker and one that has got the partition from another give the same answers.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from services.model_registry.traffic_split import BUCKETS, Bucketing, layout
from streams.records import Arm, FeatureValue

NOBODY = -1


class UnknownVersionError(LookupError):
    """A version was asked for that does not answer."""


Fields = Mapping[str, Sequence[Any]]
"""Of n requests, by name; all that some segment asks for."""


@dataclasses.dataclass(frozen=True)
class _Share:
    """Who answers in one segment, in one stretch of event time."""

    segment: Mapping[str, Sequence[FeatureValue]]
    owners: npt.NDArray[np.int64]
    """(10,000,): the arm of each bucket, `NOBODY` for the next segment to decide."""

    @cached_property
    def sole_owner(self) -> int | None:
        """The arm that has all buckets, if there is one: then no key needs to be hashed."""
        owner = int(self.owners[0])
        return owner if owner != NOBODY and bool((self.owners == owner).all()) else None


class Routes:
    """The arms of one model, as the latest `ModelChanged` lists them."""

    def __init__(self, model: str = "", arms: Sequence[Arm] = ()) -> None:
        """Lay the arms out; raise `services.model_registry.traffic_split.ShareError` if they cannot be."""
        self.answering = tuple(
            sorted((arm for arm in arms if not arm.shadow), key=lambda arm: arm.effective_from_ms)
        )
        """By rising ``effective_from_ms``."""
        self.shadows = tuple(arm for arm in arms if arm.shadow)
        self.fields = frozenset(field for arm in self.answering for field in arm.segment)
        """Request fields that segments ask for."""
        self._bucketing = Bucketing(model)
        self._starts = np.unique(np.array([arm.effective_from_ms for arm in self.answering], np.int64))
        self._stretches = [self._shares(int(start)) for start in self._starts]
        self._sole_owner = self._find_sole_owner()

    @property
    def versions(self) -> frozenset[int]:
        """All versions that have to be loaded."""
        return frozenset(arm.version for arm in (*self.answering, *self.shadows))

    def assign(
        self, event_times_ms: npt.NDArray[np.int64], keys: Sequence[Any], fields: Fields
    ) -> npt.NDArray[np.int64]:
        """Return for each request the index of its arm in ``answering``, `NOBODY` where there is none.

        Args:
            event_times_ms: (n,).
            keys: n values; the same key gets the same arm, as long as the shares stay.
            fields: The columns of ``self.fields``.
        """
        if self._sole_owner is not None and event_times_ms.min() >= self._starts[0]:
            return np.full(len(event_times_ms), self._sole_owner)
        chosen = np.full(len(event_times_ms), NOBODY, dtype=np.int64)
        stretch_of = np.searchsorted(self._starts, event_times_ms, side="right") - 1
        for stretch in np.unique(stretch_of[stretch_of >= 0]):
            rows = np.flatnonzero(stretch_of == stretch)
            chosen[rows] = self._among(self._stretches[stretch], rows, keys, fields)
        return chosen

    def only(self, version: int, count: int) -> npt.NDArray[np.int64]:
        """Return for n requests the index of the arm of one version; raise `UnknownVersionError`."""
        for index, arm in enumerate(self.answering):
            if arm.version == version:
                return np.full(count, index, dtype=np.int64)
        raise UnknownVersionError(f"version {version} does not answer")

    def _find_sole_owner(self) -> int | None:
        """Return the one arm that answers whatever comes, as most models have it: nothing to look up."""
        match self._stretches:
            case [[share]] if not share.segment:
                return share.sole_owner
        return None

    def _among(
        self, shares: Sequence[_Share], rows: npt.NDArray[np.int64], keys: Sequence[Any], fields: Fields
    ) -> npt.NDArray[np.int64]:
        chosen = np.full(len(rows), NOBODY, dtype=np.int64)
        for share in shares:
            asked = chosen == NOBODY
            for name, values in share.segment.items():
                asked &= [fields[name][row] in values for row in rows]
            if share.sole_owner is not None:
                chosen[asked] = share.sole_owner
            else:
                bucket_of = self._bucketing.bucket_of
                buckets = [bucket_of(str(keys[row])) for row in rows[asked]]
                chosen[asked] = share.owners[buckets]
        return chosen

    def _shares(self, at_ms: int) -> list[_Share]:
        """Lay out the arms in effect at an event time, those of the narrowest segments first."""
        latest: dict[tuple[str, bytes], int] = {}
        for index, arm in enumerate(self.answering):
            if arm.effective_from_ms <= at_ms:
                latest[arm.name, msgspec.json.encode(arm.segment, order="deterministic")] = index
        segments: dict[bytes, dict[str, int]] = {}
        for (name, segment), index in latest.items():
            segments.setdefault(segment, {})[name] = index
        ordered = sorted(segments.values(), key=lambda arms: -self._conditions(arms))
        return [self._share(arms) for arms in ordered]

    def _conditions(self, arms: Mapping[str, int]) -> int:
        return len(self.answering[next(iter(arms.values()))].segment)

    def _share(self, arms: Mapping[str, int]) -> _Share:
        owners = np.full(BUCKETS, NOBODY, dtype=np.int64)
        for name, spans in layout([self.answering[index] for index in arms.values()]).items():
            for first, behind in spans:
                owners[first:behind] = arms[name]
        return _Share(self.answering[next(iter(arms.values()))].segment, owners)
