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
    """A label without a prediction so far."""

    label: records.Label
    counts_at_ms: int
    """Its time in the common order of all inputs; it never decreases from one entry to the next."""


class WaitingLabels:
    """The labels of one model that wait, by the id of their prediction."""

    def __init__(self, entries: Iterable[WaitingLabel] = ()) -> None:
        """Continue from a snapshot."""
        self._entries = {entry.label.prediction_id: entry for entry in entries}

    def __len__(self) -> int:
        """Return the number of labels that wait."""
        return len(self._entries)

    def entries(self) -> list[WaitingLabel]:
        """Return the entries for a snapshot, in order."""
        return list(self._entries.values())

    def get(self, prediction_id: str) -> records.Label | None:
        """Return the label that waits for a prediction."""
        entry = self._entries.get(prediction_id)
        return None if entry is None else entry.label

    def add(self, label: records.Label, counts_at_ms: int) -> int:
        """Let the first label of a prediction wait; return how many labels were removed to make room."""
        self._entries[label.prediction_id] = WaitingLabel(label, counts_at_ms)
        if len(self._entries) <= WAITING_MAX:
            return 0
        del self._entries[next(iter(self._entries))]
        return 1

    def pop(self, prediction_id: str) -> WaitingLabel | None:
        """Remove and return the label that waits for a prediction."""
        return self._entries.pop(prediction_id, None)

    def give_up(self, now_ms: int) -> int:
        """Remove the labels that have waited for longer than `WAIT_MS`; return how many."""
        passed = list(
            itertools.takewhile(
                lambda prediction_id: has_passed(self._entries[prediction_id], now_ms), self._entries
            )
        )
        for prediction_id in passed:
            del self._entries[prediction_id]
        return len(passed)


def has_passed(entry: WaitingLabel, now_ms: int) -> bool:
    """Return whether a label has waited for too long, at a time of the common order."""
    return entry.counts_at_ms + WAIT_MS < now_ms
