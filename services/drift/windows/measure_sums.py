"""Exact sums of measures over labels, and of losses compared with those of the champion. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from services.drift.performance.exact_sums import ExactMean
from services.monitoring.arm_comparison import BLOCKS
from services.monitoring.model_metrics import MeasureRange
from streams import records

SQUARE_MAX = 1e300
"""Squares are cut here, because a sum of squares must stay finite."""


class MeasureSums(msgspec.Struct, array_like=True):
    """The sums of one measure over labels."""

    total: ExactMean = msgspec.field(default_factory=ExactMean)
    squares: ExactMean = msgspec.field(default_factory=ExactMean)
    """Sum of the squares of the same values; of fewer where an older version counted some of them."""

    def add(self, values: Sequence[float]) -> None:
        """Add the values of some labels."""
        column = np.array(values, dtype=np.float64)
        self.total.add_all(column)
        with np.errstate(over="ignore"):
            self.squares.add_all(np.minimum(column * column, SQUARE_MAX))


class ComparedLoss(NamedTuple):
    """One label's loss, or its difference from the loss of the champion's prediction for the same request."""

    value: float
    block: int
    """The block of the window in which the label became known."""
    share: float | None
    """The value after clipping, as a share of its range, 0 to 1; None while the range is unknown."""


class ComparedSums(msgspec.Struct, array_like=True):
    """Sums of `ComparedLoss` over labels."""

    blocks: dict[int, ExactMean] = {}
    """Sums of the values, by block."""
    squares: ExactMean = msgspec.field(default_factory=ExactMean)
    shares: MeasureSums = msgspec.field(default_factory=MeasureSums)

    def add(self, losses: Sequence[ComparedLoss]) -> None:
        """Add the losses of some labels."""
        values = np.array([each.value for each in losses], dtype=np.float64)
        blocks = np.array([each.block for each in losses])
        for block in np.unique(blocks).tolist():
            self.blocks.setdefault(block, ExactMean()).add_all(values[blocks == block])
        with np.errstate(over="ignore"):
            self.squares.add_all(np.minimum(values * values, SQUARE_MAX))
        if shares := [each.share for each in losses if each.share is not None]:
            self.shares.add(shares)

    def merge(self, other: "ComparedSums") -> None:
        """Add all losses of another one."""
        for block, losses in other.blocks.items():
            self.blocks.setdefault(block, ExactMean()).merge(losses)
        self.squares.merge(other.squares)
        self.shares.total.merge(other.shares.total)
        self.shares.squares.merge(other.shares.squares)

    def record(self) -> records.LossSums:
        """Return the sums for a report."""
        whole = ExactMean()
        for each in self.blocks.values():
            whole.merge(each)
        blocks = [self.blocks.get(block, ExactMean()) for block in range(BLOCKS)]
        return records.LossSums(
            labels=whole.count,
            total=whole.sum,
            squares=self.squares.sum,
            block_labels=[each.count for each in blocks],
            block_totals=[each.sum for each in blocks],
        )


OWN = 0
"""Takes the place of a champion's lineage for the losses of an arm itself."""


def block_of(label_time_ms: int, start_ms: int, end_ms: int) -> int:
    """Return the block of a window in which a label became known."""
    block = (label_time_ms - start_ms) * BLOCKS // (end_ms - start_ms)
    return min(max(block, 0), BLOCKS - 1)


def blocks_of(times_ms: npt.NDArray[np.int64], start_ms: int, end_ms: int) -> npt.NDArray[np.int64]:
    """Return the blocks of a window in which event times ``(n,)`` are."""
    blocks: npt.NDArray[np.int64] = (times_ms - start_ms) * BLOCKS // (end_ms - start_ms)
    return np.clip(blocks, 0, BLOCKS - 1)


class Comparison(NamedTuple):
    """What the losses of a labelled prediction are compared with."""

    lineage: int | None = None
    """The lineage of the champion that has made the prediction; None if another arm has."""
    loss_range: MeasureRange | None = None
    """The range to which losses are clipped; None while it is unknown."""

    def own(self, loss: float, block: int) -> ComparedLoss:
        """Return the loss of a prediction itself."""
        return ComparedLoss(loss, block, self.loss_range.share(loss) if self.loss_range else None)

    def paired(self, loss: float, champion_loss: float, block: int) -> ComparedLoss:
        """Return the difference of a shadow's loss from the champion's; as a share, 0.5 is no difference."""
        share = None
        if self.loss_range:
            share = (self.loss_range.share(loss) - self.loss_range.share(champion_loss) + 1) / 2
        return ComparedLoss(loss - champion_loss, block, share)


NOT_COMPARED = Comparison()
