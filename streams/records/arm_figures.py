"""The losses, errors and latency of each arm in a window."""

import msgspec

from streams.records.field_types import Int64


class MeasureFigures(msgspec.Struct, kw_only=True, frozen=True):
    """Exact sums of one measure, each rounded once: mean and variance follow, and tests over many windows."""

    measure: str
    """See `services.monitoring.model_metrics`."""
    labels: Int64
    total: float
    """Sum of the values."""
    squares: float | None
    """Sum of the squares of the values; null if an older version has counted some of them."""


class LossSums(msgspec.Struct, kw_only=True, frozen=True):
    """Sums of a loss over the labels of a window, and over the blocks of equal time that divide the window.

    `services.monitoring.arm_comparison` adds those of several windows.
    """

    labels: Int64
    total: float
    """Sum of the values."""
    squares: float
    """Sum of the squares of the values."""
    block_labels: list[Int64]
    """Labels by block."""
    block_totals: list[float]
    """Sum of the values by block."""


class LossDifference(msgspec.Struct, kw_only=True, frozen=True):
    """Mean loss of an arm minus the champion's; below 0 the arm is better."""

    champion: Int64
    """The champion's version."""
    is_paired: bool
    """Whether both have answered the same requests, as a shadow does; else the requests are others."""
    labels: Int64
    champion_labels: Int64
    """Equal to ``labels`` if the difference is paired."""
    mean: float
    standard_error: float | None = None
    """Standard error of the mean, which allows for losses that are alike within a block of time; null with
    labels in fewer than two blocks."""
    low: float | None = None
    """Lower end of the 95 % confidence interval at this one time, by Student's distribution."""
    high: float | None = None
    """Upper end of that interval."""
    running_labels: Int64 = 0
    """Labels of the arm in the running figures, which begin with its first window with the champion."""
    running: float | None = None
    """Mean difference over these windows, with losses clipped at 4 and errors at their scale."""
    running_low: float | None = None
    """Lower end of a confidence sequence: it holds at all times together with 95 %."""
    running_high: float | None = None
    """Upper end of that sequence."""


class CallTimes(msgspec.Struct, kw_only=True, frozen=True):
    """How long the calls of a model took, by the rows that waited for them. Counts of windows add up."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    counts: dict[str, Int64]
    """Rows by upper limit of the time in microseconds, as text; limits are 19 % apart."""


class RequestSums(msgspec.Struct, kw_only=True, frozen=True):
    """Sums over the requests of an arm by the blocks of equal time that divide the window, by event time.

    `services.monitoring.arm_comparison` adds those of several windows, and compares arms.
    """

    answered: list[Int64]
    failed: list[Int64]
    """See `ArmFigures.failed`."""
    timed: list[Int64]
    """Answered requests whose call has a time."""
    call_cells: list[Int64]
    """Sums of the cells of these times; a cell is a quarter of the binary logarithm of the microseconds."""
    call_cell_squares: Int64
    """Sum of the squares of these cells over the window."""


class ArmFigures(msgspec.Struct, kw_only=True, frozen=True):
    """What one version did in one arm within a window."""

    arm: str
    """Empty in the entry that holds all arms after the first 64."""
    version: Int64
    """0 if it is unknown: of a shadow, or of requests not answered, in predictions of older versions of
    Driftline."""
    shadow: bool = False
    is_champion: bool = False
    """Whether it counts as the champion of this window."""
    predictions: Int64 = 0
    """Predictions of a shadow: those that have its score."""
    labels: Int64 = 0
    """Labels of these predictions that became known within the window."""
    measures: list[MeasureFigures] = []
    """The measures of those labels whose prediction has a score."""
    failed: Int64 = 0
    """Requests of this arm that its version did not answer: the champion has answered those of a challenger,
    and those of a shadow lack its score."""
    call_times: CallTimes | None = None
    """Null without predictions, and in reports of older versions."""
    losses: LossSums | None = None
    """Sums of the loss; of a shadow, of its difference from the loss of the champion ``DriftReport.version``
    for the same requests. Null without labels, and in reports of older versions."""
    difference: LossDifference | None = None
    """The comparison of this window with its champion; null for the champion itself."""
    requests: RequestSums | None = None
    """Null in reports of older versions, and of windows that one began."""
