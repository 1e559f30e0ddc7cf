"""Drops records that were written again: by the offset of the record that each was made from. Pure."""

import bisect
from collections.abc import Mapping, Sequence

from streams import records

SOURCES_MAX = 8
"""Maximum source topics of one filter: a model changes its request topic rarely."""
NEWEST_MAX = 32
"""Number of the highest offsets of a partition that are remembered one by one. Up to this number of records
with a false, too high offset do not make valid records count as repeats. They take about 300 bytes of a
snapshot."""

OffsetsBySource = Mapping[str, Mapping[int, Sequence[int]]]
"""Rising offsets by source topic and partition."""


class RepeatFilter:
    """Drops repeats of records that have the offset of their source record.

    Within one partition these offsets rise, and after a crash the producer continues from an earlier one. So
    a repeat is an offset that is not above the last one seen, and O(1) in time and space. The highest ones
    are compared one by one: a record of somebody else, whose offset is far beyond the honest ones, would make
    all that follow repeats. A prediction requested over HTTP has no source record, is written once, and is
    never a repeat.

    A source topic may be replaced by another, whose offsets begin with 0 again. Records name their topic by a
    digest, and each topic has its own offsets. Records of older versions name none: they are of the topic
    that is named first.
    """

    def __init__(
        self,
        last_offsets: Mapping[int, int] | None = None,
        by_source: Mapping[str, Mapping[int, int]] | None = None,
        newest: OffsetsBySource | None = None,
    ) -> None:
        """Start after the given offsets.

        Args:
            last_offsets: The offset by source partition up to which all are repeats, of records that do not
                name their topic.
            by_source: The same of the others, by digest of their topic, the latest topic last.
            newest: The offsets above these that were seen; those without a topic have the empty one.
        """
        self.last_offsets = dict(last_offsets or {})
        self.by_source = {source: dict(offsets) for source, offsets in (by_source or {}).items()}
        self.newest = {source: _lists(offsets) for source, offsets in (newest or {}).items()}
        self._latest = next(reversed(self.by_source), "")

    @classmethod
    def after(cls, seen: OffsetsBySource) -> "RepeatFilter":
        """Start after the highest offsets that were seen, `NEWEST_MAX` + 1 of them or all."""
        low = {
            source: {number: found[0] for number, found in offsets.items() if len(found) > NEWEST_MAX}
            for source, offsets in seen.items()
        }
        high = {
            source: {number: found[-NEWEST_MAX:] for number, found in offsets.items()}
            for source, offsets in seen.items()
        }
        return cls(low.pop("", {}), low, high)

    def is_repeat(self, partition: int, offset: int, source: str = "") -> bool:
        """Tell whether this record was seen before, and store its offset."""
        if offset == records.ASKED_OVER_HTTP:
            return False
        if source and source != self._latest:
            self._use(source)
        try:
            seen = self.newest[source][partition]
        except KeyError:
            seen = self.newest.setdefault(source, {}).setdefault(partition, [])
        if seen and offset > seen[-1]:
            seen.append(offset)
        else:
            if offset <= self._last_offsets(source).get(partition, -1):
                return True
            place = bisect.bisect_left(seen, offset)
            if place < len(seen) and seen[place] == offset:
                return True
            seen.insert(place, offset)
        if len(seen) > NEWEST_MAX:
            self._last_offsets(source)[partition] = seen.pop(0)
        return False

    def _last_offsets(self, source: str) -> dict[int, int]:
        return self.by_source[source] if source else self.last_offsets

    def _use(self, source: str) -> None:
        """Continue with another topic, or begin with it; forget the one used longest ago if they are many."""
        known = self.by_source.pop(source, None)
        if known is None:
            known = {} if self.by_source else dict(self.last_offsets)
            self.newest[source] = {} if self.by_source else _lists(self.newest.get("", {}))
        self.by_source[source] = known
        self._latest = source
        while len(self.by_source) > SOURCES_MAX:
            forgotten = next(iter(self.by_source))
            del self.by_source[forgotten]
            self.newest.pop(forgotten, None)


def _lists(offsets: Mapping[int, Sequence[int]]) -> dict[int, list[int]]:
    return {partition: list(found) for partition, found in offsets.items()}
