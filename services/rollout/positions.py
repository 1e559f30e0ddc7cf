"""Where a monitor reads its topics on, and how far their event time is. Pure.

Requests of different partitions are compared independently of each other, so they are taken as they come: a
partition without traffic holds up no rollback. A label window is closed when the labels have passed its end.
Only labels that are dated after the latest request wait for it.

A record that came over HTTP may be dated far from the stream, so it tells the time only in a topic without
other records. Labels over HTTP are then taken to be no later than the latest request.
"""

from collections.abc import Mapping

from streams import records
from streams.inputs import BEFORE_ALL_MS, LABEL, PREDICTION, PartitionKey, Resume


class Positions:
    """Next offsets and event times by partition; the sink of heartbeats and rejected records."""

    def __init__(self, resume: Mapping[PartitionKey, Resume], *, all_labels: bool = False) -> None:
        """Continue at these positions.

        ``all_labels``: the time of the labels is not known before each partition has told it, because a label
        that does not come has a meaning.
        """
        self._resume = dict(resume)
        self._all_labels = all_labels
        self._over_http_ms: dict[PartitionKey, int] = {}
        self.letters: list[records.DeadLetter] = []
        """Records that could not be decoded, until somebody takes them."""

    def pass_record(
        self, source: PartitionKey, offset: int, time_ms: int, *, is_over_http: bool = False
    ) -> bool:
        """Move behind a record; return False if it was passed before.

        Args:
            source: Its partition.
            offset: Its offset.
            time_ms: Its event time.
            is_over_http: Whether somebody has sent it over HTTP.
        """
        at = self._resume[source]
        if offset < at.offset:
            return False
        if is_over_http:
            self._over_http_ms[source] = max(self._over_http_ms.get(source, BEFORE_ALL_MS), time_ms)
            time_ms = BEFORE_ALL_MS
        self._resume[source] = Resume(offset + 1, max(at.bound_ms, time_ms))
        return True

    def add_heartbeat(self, source: PartitionKey, offset: int, watermark_ms: int) -> None:
        """Take a heartbeat: no event up to this time will follow."""
        self.pass_record(source, offset, watermark_ms)

    def reject(self, source: PartitionKey, offset: int, letter: records.DeadLetter | None) -> None:
        """Take a record that could not be decoded."""
        if self.pass_record(source, offset, BEFORE_ALL_MS) and letter is not None:
            self.letters.append(letter)

    def labels_ahead(self) -> set[PartitionKey]:
        """Return the partitions with labels that are dated after the latest request."""
        latest_ms = self.latest_ms
        return {key for key, at in self._resume.items() if key.kind == LABEL and at.bound_ms > latest_ms}

    def resume(self) -> dict[PartitionKey, Resume]:
        """Return where to continue after a restart."""
        return dict(self._resume)

    @property
    def latest_ms(self) -> int:
        """The latest event time of the predictions; `BEFORE_ALL_MS` before the first."""
        return max(self._times_ms(PREDICTION), default=BEFORE_ALL_MS)

    @property
    def labels_ms(self) -> int:
        """The event time that all partitions with labels have reached; `BEFORE_ALL_MS` before the first."""
        return self._slowest_ms(LABEL)

    @property
    def requests_ms(self) -> int:
        """The event time that all partitions with requests have reached; `BEFORE_ALL_MS` before the first."""
        return self._slowest_ms(PREDICTION)

    def _slowest_ms(self, kind: int) -> int:
        found = self._times_ms(kind)
        if kind == LABEL and self._all_labels:
            return min(found, default=BEFORE_ALL_MS)
        return min((each for each in found if each != BEFORE_ALL_MS), default=BEFORE_ALL_MS)

    def _times_ms(self, kind: int) -> list[int]:
        """Return the event times that the partitions have reached; `BEFORE_ALL_MS` if it is not known."""
        partitions = [key for key in self._resume if key.kind == kind]
        found = [self._resume[key].bound_ms for key in partitions]
        if any(each != BEFORE_ALL_MS for each in found):
            return found
        over_http = [self._over_http_ms.get(key, BEFORE_ALL_MS) for key in partitions]
        return [min(each, self.latest_ms) for each in over_http] if kind == LABEL else over_http
