"""Counts of the requests of one arm, by the blocks of equal time that divide the window. Pure.

Requests count in the block of their event time: what fails or is slow is so together with its neighbours, and
the blocks show how much that adds to the error of a share or of a mean.
"""

import msgspec

from services.monitoring import call_times
from services.monitoring.arm_comparison import BLOCKS
from streams import records


def _no_counts() -> list[int]:
    return [0] * BLOCKS


class RequestCounts(msgspec.Struct, array_like=True):
    """Counts by block; all are integers, so their order does not matter."""

    answered: list[int] = msgspec.field(default_factory=_no_counts)
    failed: list[int] = msgspec.field(default_factory=_no_counts)
    timed: list[int] = msgspec.field(default_factory=_no_counts)
    """Answered requests whose call has a time."""
    call_cells: list[int] = msgspec.field(default_factory=_no_counts)
    """Sums of the cells of these times."""
    call_cell_squares: int = 0

    def add_call(self, block: int, call_us: int, count: int) -> None:
        """Add requests that waited for a call of this time."""
        cell = call_times.cell_of(call_us)
        self.timed[block] += count
        self.call_cells[block] += count * cell
        self.call_cell_squares += count * cell * cell

    def merge(self, other: "RequestCounts") -> None:
        """Add all requests of another one."""
        for own, more in (
            (self.answered, other.answered),
            (self.failed, other.failed),
            (self.timed, other.timed),
            (self.call_cells, other.call_cells),
        ):
            own[:] = map(sum, zip(own, more, strict=True))
        self.call_cell_squares += other.call_cell_squares

    def record(self, requests: int) -> records.RequestSums | None:
        """Return the sums for a report; None if an older version has counted some of the requests."""
        if sum(self.answered) + sum(self.failed) != requests:
            return None
        return records.RequestSums(
            answered=list(self.answered),
            failed=list(self.failed),
            timed=list(self.timed),
            call_cells=list(self.call_cells),
            call_cell_squares=self.call_cell_squares,
        )
