"""Assigns requests to arms. Pure: a function of the declared arms and of the request alone.

The arm follows from the event time of the request, not from its arrival, and from its key. So a replay, a
restarted worker, and a worker that took over the partition make the same predictions.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from services.model_registry.traffic_split import BUCKETS, Bucketing, is_champion, layout
from streams.records import Arm, FeatureValue

NO_ARM = -1
"""Takes the place of an arm's index if no arm is in effect for the request."""


class UnknownVersionError(LookupError):
    """The requested version is in no arm that gives predictions."""


SegmentColumns = Mapping[str, Sequence[Any]]
"""Fields of n requests, by name; all fields that some segment compares."""


@dataclasses.dataclass(frozen=True)
class _SegmentSplit:
    """How one segment's buckets are divided among arms, within one interval of event time."""

    segment: Mapping[str, Sequence[FeatureValue]]
    owners: npt.NDArray[np.int64]
    """(10,000,): the arm of each bucket; `NO_ARM` leaves the bucket to the next segment."""

    @cached_property
    def sole_owner(self) -> int | None:
        """The arm that has all buckets, if there is one: then no key needs to be hashed."""
        owner = int(self.owners[0])
        return owner if owner != NO_ARM and bool((self.owners == owner).all()) else None


class ArmRouter:
    """The arms of one model, as the latest `ModelChanged` lists them."""

    def __init__(self, model: str = "", arms: Sequence[Arm] = ()) -> None:
        """Lay out the arms; raise `services.model_registry.traffic_split.ShareError` if they overlap."""
        self.answering = tuple(
            sorted((arm for arm in arms if not arm.shadow), key=lambda arm: arm.effective_from_ms)
        )
        """Arms that give predictions, by ascending ``effective_from_ms``."""
        self.shadows = tuple(arm for arm in arms if arm.shadow)
        self.fields = frozenset(field for arm in self.answering for field in arm.segment)
        """Request fields that segments compare."""
        self._bucketing = Bucketing(model)
        self._starts = np.unique(np.array([arm.effective_from_ms for arm in self.answering], np.int64))
        self._intervals = [self._splits(int(start)) for start in self._starts]
        self._sole_owner = self._find_sole_owner()

    @property
    def versions(self) -> frozenset[int]:
        """All versions that must be loaded."""
        return frozenset(arm.version for arm in (*self.answering, *self.shadows))

    def assign(
        self, event_times_ms: npt.NDArray[np.int64], keys: Sequence[Any], fields: SegmentColumns
    ) -> npt.NDArray[np.int64]:
        """Return the index in ``answering`` of each request's arm, (n,); `NO_ARM` if there is none.

        Args:
            event_times_ms: (n,).
            keys: n values; a key keeps its arm while the shares do not change.
            fields: The columns of ``self.fields``.
        """
        if self._sole_owner is not None and event_times_ms.min() >= self._starts[0]:
            return np.full(len(event_times_ms), self._sole_owner)
        chosen = np.full(len(event_times_ms), NO_ARM, dtype=np.int64)
        interval_of = np.searchsorted(self._starts, event_times_ms, side="right") - 1
        for interval in np.unique(interval_of[interval_of >= 0]):
            rows = np.flatnonzero(interval_of == interval)
            chosen[rows] = self._choose(self._intervals[interval], rows, keys, fields)
        return chosen

    def assign_version(self, version: int, count: int) -> npt.NDArray[np.int64]:
        """Return the index of one version's arm for each of ``count`` requests.

        Raises `UnknownVersionError`.
        """
        for index, arm in enumerate(self.answering):
            if arm.version == version:
                return np.full(count, index, dtype=np.int64)
        raise UnknownVersionError(f"version {version} is in no arm that gives predictions")

    @property
    def champions(self) -> frozenset[int]:
        """The versions of the champions, which answer for other arms, too; without any, of all arms."""
        return frozenset(self.answering[index].version for index in self._champions or self._all)

    @property
    def essential(self) -> frozenset[int]:
        """The versions without which these arms must not take effect: of the latest champion, if any."""
        return frozenset(self.answering[index].version for index in self._champions[-1:] or self._all)

    def stand_ins(
        self, event_times_ms: npt.NDArray[np.int64], broken: Collection[int], now_ms: int
    ) -> npt.NDArray[np.int64]:
        """Return the index in ``answering`` of the arm that answers instead of a broken one, (n,).

        That is the champion at the request's event time. If it is broken itself, it is the next champion that
        has replaced it by now, and `NO_ARM` without one.

        Args:
            event_times_ms: (n,).
            broken: The versions that cannot answer.
            now_ms: Wall time.
        """
        champions = [(index, self.answering[index]) for index in self._champions]
        found = [NO_ARM]  # before the first champion
        for at, own in enumerate(champions):
            later = [each for each in champions[at + 1 :] if each[1].effective_from_ms <= now_ms]
            working = (index for index, arm in (own, *later) if arm.version not in broken)
            found.append(next(working, NO_ARM))
        starts_ms = [arm.effective_from_ms for _, arm in champions]
        return np.array(found, np.int64)[np.searchsorted(starts_ms, event_times_ms, side="right")]

    @property
    def _all(self) -> range:
        return range(len(self.answering))

    @cached_property
    def _champions(self) -> tuple[int, ...]:
        """The champions of all requests, by ascending ``effective_from_ms``."""
        return tuple(index for index, arm in enumerate(self.answering) if is_champion(arm))

    def _find_sole_owner(self) -> int | None:
        """Return the arm that gets every request, as in most models: then nothing is looked up."""
        match self._intervals:
            case [[split]] if not split.segment:
                return split.sole_owner
        return None

    def _choose(
        self,
        splits: Sequence[_SegmentSplit],
        rows: npt.NDArray[np.int64],
        keys: Sequence[Any],
        fields: SegmentColumns,
    ) -> npt.NDArray[np.int64]:
        chosen = np.full(len(rows), NO_ARM, dtype=np.int64)
        for split in splits:
            matching = chosen == NO_ARM
            for name, values in split.segment.items():
                matching &= [fields[name][row] in values for row in rows]
            if split.sole_owner is not None:
                chosen[matching] = split.sole_owner
            else:
                bucket_of = self._bucketing.bucket_of
                buckets = [bucket_of(str(keys[row])) for row in rows[matching]]
                chosen[matching] = split.owners[buckets]
        return chosen

    def _splits(self, event_time_ms: int) -> list[_SegmentSplit]:
        """Lay out the arms in effect at an event time, the narrowest segments first."""
        latest: dict[tuple[str, bytes], int] = {}
        for index, arm in enumerate(self.answering):
            if arm.effective_from_ms <= event_time_ms:
                latest[arm.name, msgspec.json.encode(arm.segment, order="deterministic")] = index
        segments: dict[bytes, dict[str, int]] = {}
        for (name, segment), index in latest.items():
            segments.setdefault(segment, {})[name] = index
        ordered = sorted(segments.values(), key=lambda arms: -self._condition_count(arms))
        return [self._split(arms) for arms in ordered]

    def _condition_count(self, arms: Mapping[str, int]) -> int:
        return len(self.answering[next(iter(arms.values()))].segment)

    def _split(self, arms: Mapping[str, int]) -> _SegmentSplit:
        owners = np.full(BUCKETS, NO_ARM, dtype=np.int64)
        for name, spans in layout([self.answering[index] for index in arms.values()]).items():
            for start, stop in spans:
                owners[start:stop] = arms[name]
        return _SegmentSplit(self.answering[next(iter(arms.values()))].segment, owners)


def rows_per_arm(arm_of: npt.NDArray[np.int64], start: int = 0) -> dict[int, int]:
    """Return the number of rows of each arm that has any, for arms with an index of at least ``start``.

    Not by `numpy.unique`, which sorts and takes 0.1 ms for a few rows.
    """
    counts = np.bincount(arm_of - NO_ARM).tolist()
    return {index: count for index, count in enumerate(counts, NO_ARM) if count and index >= start}
