"""The offsets that requests for retraining need in the tables: a commit is due once they are read. Pure."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping

from services.archive.row_schemas import Partition
from streams.codec import InvalidRecordError, KafkaRecord
from streams.records import RetrainingRecord, RetrainingRequested, decoder_of

OPEN_MAX = 1000
"""Maximum number of requests that wait, the latest: one that names offsets far ahead waits forever."""


class RequiredOffsets:
    """The requests whose records have not all been read yet, each as the offsets that it needs."""

    def __init__(self) -> None:
        """Create it without requests."""
        self._open: list[Mapping[Partition, int]] = []

    def add(self, required: Mapping[Partition, int]) -> None:
        """Add the offsets of one request: every record before them must be in the tables."""
        self._open.append(required)
        del self._open[:-OPEN_MAX]

    def remove_reached(self, positions: Mapping[Partition, int]) -> bool:
        """Remove the requests that positions have reached; return whether there were any.

        A partition that has no position here is read by another member of the group and is ignored.
        """
        remaining = [
            required
            for required in self._open
            if any(positions.get(partition, offset) < offset for partition, offset in required.items())
        ]
        reached = len(remaining) < len(self._open)
        self._open = remaining
        return reached


def required_by(request: RetrainingRequested) -> dict[Partition, int]:
    """Return the offsets that a request names, by partition; empty if it names none."""
    return {
        (topic, number): offset
        for topic, offsets in request.offsets.items()
        for number, offset in enumerate(offsets)
    }


def decoded_requests(batch: Iterable[KafkaRecord]) -> Iterator[RetrainingRequested]:
    """Yield the requests among records of the retraining topic; skip those that cannot be decoded.

    The retraining process writes the dead letters of these.
    """
    decode = decoder_of(RetrainingRecord).decode
    for record in batch:
        with contextlib.suppress(InvalidRecordError):
            decoded = decode(record.value)
            if isinstance(decoded, RetrainingRequested):
                yield decoded
