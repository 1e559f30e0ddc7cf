"""Finds the record on which a build fails: fewer and fewer are applied, until only that one is left. Pure."""

from collections.abc import Mapping, Sequence

from aiokafka import ConsumerRecord

from streams.defects import ATTEMPTS_MAX, reason_of

RECORDS_MAX = 1 << 16
"""Number of records that must be applied without an error before a search ends."""


class DefectSearch:
    """The search of one build. After each failure the next attempt has half as many records, then twice.

    `streams.record_isolation` does the same for slices. A build reads its records again for each attempt,
    because its views read their positions again after each failure.
    """

    def __init__(self) -> None:
        """Start without a failure."""
        self._failures = 0
        self._records_max = RECORDS_MAX
        self._reason: str | None = None

    @property
    def is_active(self) -> bool:
        """Whether the last attempts failed: views are then attempted one by one."""
        return self._failures > 0

    def bounded(
        self, records: Sequence[ConsumerRecord], next_offset: int
    ) -> tuple[Sequence[ConsumerRecord], int]:
        """Return the first of some records for the next attempt, and the offset after them."""
        if len(records) <= self._records_max:
            return records, next_offset
        return records[: self._records_max], records[self._records_max].offset

    def defects(self, records: Sequence[ConsumerRecord]) -> Mapping[int, str]:
        """Return the reason of the single record that failed, by its offset, for the next attempt."""
        return {} if self._reason is None else {records[0].offset: self._reason}

    def note_failure(self, records: int, error: Exception) -> bool:
        """Note an attempt that ended with a defect; return whether the next one may begin at once."""
        if self._reason is not None or not records:
            self._failures, self._records_max, self._reason = 0, RECORDS_MAX, None
            return False  # no record is at fault: wait, and begin again
        self._failures += 1
        if self._failures < ATTEMPTS_MAX:
            return False
        self._records_max = max(records // 2, 1)
        if records == 1:
            self._reason = reason_of(error)
        return True

    def note_success(self) -> None:
        """Note an attempt that has succeeded."""
        self._reason = None
        self._records_max = min(2 * self._records_max, RECORDS_MAX)
        if self._records_max == RECORDS_MAX:
            self._failures = 0
