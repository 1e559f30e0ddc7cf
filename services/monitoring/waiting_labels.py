"""Labels that came before their prediction, in the common order of all inputs. Pure.

A prediction may count later than its event time: an earlier record of its partition was dated after it, or it
came out of order. A label that is known soon then counts before it. Such a label waits for a bounded time.
"""

import itertools
from collections.abc import Iterable

import msgspec

from streams import records

WAIT_MS = 3_600_000
"""Event time that a label waits: longer than records of a partition are out of order, and soon enough for the
totals of a window to be right in the next one."""
WAITING_MAX = 10_000
"""Maximum labels that wait, the newest: 2 MB. Where models share a label topic, most labels are of others."""


class WaitingLabel(msgspec.Struct, array_like=True, gc=False):
    """The labels of a prediction that has not come so far."""

    label: records.Label
    """The first label."""
    counts_at_ms: int
    """Time of the first label in the common order of all inputs; never decreases from one entry to the
    next."""
    further: list[records.Label] = []
    """Labels of the same prediction that came while the first one waited, in order."""

    @property
    def count(self) -> int:
        """Number of labels."""
        return 1 + len(self.further)


class WaitingLabels:
    """The labels of one model that wait, by the id of their prediction."""

    def __init__(self, entries: Iterable[WaitingLabel] = ()) -> None:
        """Continue from a snapshot."""
        self._entries = {entry.label.prediction_id: entry for entry in entries}
        self._count = sum(entry.count for entry in self._entries.values())

    def __len__(self) -> int:
        """Return the number of labels that wait."""
        return self._count

    def entries(self) -> list[WaitingLabel]:
        """Return the entries for a snapshot, in order."""
        return list(self._entries.values())

    def add(self, label: records.Label, counts_at_ms: int) -> int:
        """Let a label wait; return how many labels were removed: they waited for too long, or made room."""
        removed, entry = 0, self._entries.get(label.prediction_id)
        if entry is not None and has_passed(entry, counts_at_ms):
            removed, entry = self._remove(label.prediction_id), None
        if entry is None:
            self._entries[label.prediction_id] = WaitingLabel(label, counts_at_ms)
        else:
            entry.further.append(label)
        self._count += 1
        if self._count > WAITING_MAX:
            removed += self._remove(next(iter(self._entries)))
        return removed

    def pop(self, prediction_id: str) -> WaitingLabel | None:
        """Remove and return the labels that wait for a prediction."""
        entry = self._entries.pop(prediction_id, None)
        self._count -= 0 if entry is None else entry.count
        return entry

    def give_up(self, now_ms: int) -> int:
        """Remove the labels that have waited for longer than `WAIT_MS`; return how many."""
        passed = list(
            itertools.takewhile(
                lambda prediction_id: has_passed(self._entries[prediction_id], now_ms), self._entries
            )
        )
        return sum(self._remove(prediction_id) for prediction_id in passed)

    def _remove(self, prediction_id: str) -> int:
        entry = self.pop(prediction_id)
        return 0 if entry is None else entry.count


def has_passed(entry: WaitingLabel, now_ms: int) -> bool:
    """Return whether labels have waited for too long, at a time of the common order."""
    return entry.counts_at_ms + WAIT_MS < now_ms
