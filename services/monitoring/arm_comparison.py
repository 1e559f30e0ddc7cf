"""Compares the arms of a model with its champion: losses, errors and times of calls. Pure.

A shadow answers the same requests as the champion, so the difference of their losses is *paired*: what is
hard to predict is so for both, and cancels. A challenger answers other requests: its mean loss is compared
with the champion's of the same time.

Losses close in time are alike, because of storms and holidays. So a window is divided into blocks of equal
time, and the standard error is that of cluster sampling with blocks as clusters (Cochran, *Sampling
Techniques*, 1977, 6.5): for a block with the residual ``e = (S - n m) / N`` of n labels with the total S,
where N labels have the mean m,

    variance = B / (B - 1) * sum(e^2)

over B blocks. For a challenger, e is the difference of its residual and the champion's, so what changes for
both within a block cancels, too. It is at least the variance of independent losses.

The share of requests that an arm did not answer is the mean of a value of 0 or 1, and is compared in the same
way, with one error and one answer added to the variance: no error in a few requests is no proof. A shadow has
the champion's requests, so its share is the difference. Times of calls are compared by the mean of their
logarithms, so the result is a ratio.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from services.monitoring import call_times
from streams.records import ArmFigures, CallTimes, DriftReport, LossDifference, LossSums, RequestSums

BLOCKS = 16
"""Blocks of a window: enough that Student's distribution with B - 1 degrees of freedom is near the normal."""
CONFIDENCE = 0.95
_Numbers = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class ArmComparison:
    """What one version did in one arm over some windows, compared with the champion."""

    arm: str
    version: int
    shadow: bool
    is_champion: bool
    """Whether it is the champion of the last of these windows in which it has predictions or labels."""
    predictions: int
    failed: int
    """Requests that the version did not answer."""
    labels: int
    loss: float | None
    """Mean loss over the labels; None without any."""
    difference: LossDifference | None
    """Mean loss minus the champion's; None for the champion, and if either of them has no labels."""
    call_times: CallTimes | None
    failures: "FailureDifference | None" = None
    """None for the champion, and without requests of both that are counted by block; so is the next one."""
    call_ratio: "CallTimeRatio | None" = None

    @property
    def failed_share(self) -> float | None:
        """The share of the arm's requests that its version did not answer; None without requests."""
        requests = self.predictions + self.failed
        return self.failed / requests if requests else None


@dataclasses.dataclass(frozen=True)
class FailureDifference:
    """Share of the requests that an arm did not answer, minus the champion's share."""

    requests: int
    champion_requests: int
    mean: float
    low: float | None
    """Lower end of the 95 % interval at this one time; None with requests in fewer than two blocks."""
    high: float | None


@dataclasses.dataclass(frozen=True)
class CallTimeRatio:
    """Geometric mean duration of an arm's calls, divided by that of the champion's calls."""

    rows: int
    """Answered requests, each of which has waited for its call."""
    champion_rows: int
    ratio: float
    low: float | None
    """Lower end of the interval, see `FailureDifference`."""
    high: float | None


def compare(reports: Sequence[DriftReport]) -> list[ArmComparison]:
    """Return each arm and version of some windows, in the order of `DriftReport.arms`.

    Differences are to the champion of the last window, over the windows that it was the champion of.

    Args:
        reports: One for each window, the earliest first.
    """
    keys = sorted({(each.arm, each.version, each.shadow) for report in reports for each in report.arms})
    return [_compare(key, reports) for key in keys]


def side_by_side(report: DriftReport) -> list[ArmComparison]:
    """Return the named arms of a window: those of the champion first, then challengers, then shadows."""
    found = [each for each in compare([report]) if each.arm]
    return sorted(found, key=lambda each: (not each.is_champion, each.shadow, each.arm, each.version))


def difference(windows: Iterable[tuple[LossSums, LossSums | None]], champion: int) -> LossDifference | None:
    """Return an arm's mean loss minus the champion's; None without labels.

    Args:
        windows: Pairs by window: the arm's sums and the champion's, which are None where those of the arm are
            sums of paired differences.
        champion: Its version.
    """
    return _difference(list(windows), champion, _MeanLoss)


def failure_difference(
    windows: Iterable[tuple[RequestSums, RequestSums | None]],
) -> FailureDifference | None:
    """Return an arm's share of errors minus the champion's; None without requests.

    ``windows`` are as in `difference`: of a shadow, the champion's sums are None.
    """
    pairs = [(_failures(own), None if other is None else _failures(other)) for own, other in windows]
    found = _difference(pairs, 0, _MeanShare)
    if found is None:
        return None
    return FailureDifference(found.labels, found.champion_labels, found.mean, found.low, found.high)


def call_time_ratio(windows: Iterable[tuple[RequestSums, RequestSums]]) -> CallTimeRatio | None:
    """Return the ratio of the duration of an arm's calls to the champion's; None without calls of both."""
    found = _difference([(_calls(own), _calls(other)) for own, other in windows], 0, _MeanLoss)
    if found is None:
        return None
    ratio, low, high = (
        None if each is None else 2 ** (each / call_times.CELLS_TO_DOUBLE)
        for each in (found.mean, found.low, found.high)
    )
    return CallTimeRatio(found.labels, found.champion_labels, ratio or 0.0, low, high)


def added(sums: Iterable[LossSums]) -> LossSums:
    """Return the sums of several arms within one window as those of one."""
    given = list(sums)
    return LossSums(
        labels=sum(each.labels for each in given),
        total=math.fsum(each.total for each in given),
        squares=math.fsum(each.squares for each in given),
        block_labels=[sum(each.block_labels[block] for each in given) for block in range(BLOCKS)],
        block_totals=[math.fsum(each.block_totals[block] for each in given) for block in range(BLOCKS)],
    )


def added_requests(sums: Iterable[RequestSums]) -> RequestSums | None:
    """Return the sums of several arms within one window as those of one; None without any."""
    given = list(sums)
    if not given:
        return None
    answered, failed, timed, cells = (
        [sum(each) for each in zip(*(getattr(one, name) for one in given), strict=True)]
        for name in ("answered", "failed", "timed", "call_cells")
    )
    squares = sum(each.call_cell_squares for each in given)
    return RequestSums(
        answered=answered, failed=failed, timed=timed, call_cells=cells, call_cell_squares=squares
    )


def _failures(sums: RequestSums) -> LossSums:
    """Return the sums of a value that is 1 for a request that was not answered, else 0."""
    requests = [answered + failed for answered, failed in zip(sums.answered, sums.failed, strict=True)]
    failed = sum(sums.failed)
    return LossSums(
        labels=sum(requests),
        total=failed,
        squares=failed,
        block_labels=requests,
        block_totals=list(map(float, sums.failed)),
    )


def _calls(sums: RequestSums) -> LossSums:
    """Return the sums of the cells of the times of calls."""
    return LossSums(
        labels=sum(sums.timed),
        total=sum(sums.call_cells),
        squares=sums.call_cell_squares,
        block_labels=sums.timed,
        block_totals=list(map(float, sums.call_cells)),
    )


class _MeanLoss:
    """The mean of a value over windows, and how far it varies; the windows of both arms are the same."""

    def __init__(self, windows: Sequence[LossSums]) -> None:
        self.labels = sum(each.labels for each in windows)
        self.mean = math.fsum(each.total for each in windows) / self.labels if self.labels else 0.0
        counts = np.array([count for each in windows for count in each.block_labels], dtype=np.float64)
        totals = np.array([total for each in windows for total in each.block_totals], dtype=np.float64)
        self.blocks = int(np.count_nonzero(counts))
        self.residuals: _Numbers = (totals - counts * self.mean) / max(self.labels, 1)
        squares = math.fsum(each.squares for each in windows)
        spread = max(squares - self.labels * self.mean * self.mean, 0.0)
        self.variance = spread / max(self.labels - 1, 1) / max(self.labels, 1)
        """Variance of the mean, if values are independent."""


class _MeanShare(_MeanLoss):
    """The mean of a value of 0 or 1."""

    def __init__(self, windows: Sequence[LossSums]) -> None:
        super().__init__(windows)
        share = (self.mean * self.labels + 1) / (self.labels + 2)
        self.variance = share * (1 - share) / max(self.labels, 1)


def _difference(
    pairs: Sequence[tuple[LossSums, LossSums | None]], champion: int, mean_of: type[_MeanLoss]
) -> LossDifference | None:
    own = mean_of([each for each, _ in pairs])
    other = mean_of([each for _, each in pairs if each is not None])
    is_paired = all(each is None for _, each in pairs)
    if not own.labels or not (is_paired or other.labels):
        return None
    mean, residuals, independent = own.mean, own.residuals, own.variance
    if not is_paired:
        mean, residuals = mean - other.mean, residuals - other.residuals
        independent += other.variance
    error, distance = _standard_error(residuals, own.blocks, independent)
    return LossDifference(
        champion=champion,
        is_paired=is_paired,
        labels=own.labels,
        champion_labels=own.labels if is_paired else other.labels,
        mean=mean,
        standard_error=error,
        low=None if distance is None else mean - distance,
        high=None if distance is None else mean + distance,
    )


def _standard_error(
    residuals: _Numbers, blocks: int, independent: float
) -> tuple[float | None, float | None]:
    """Return the standard error, and half of the length of the interval; None with fewer than two blocks."""
    if blocks < 2:
        return None, None
    clustered = blocks / (blocks - 1) * float(residuals @ residuals)
    error = math.sqrt(max(clustered, independent))
    from scipy import special  # late: a fifth of the start of dashboard and alerting

    return error, error * float(special.stdtrit(blocks - 1, (1 + CONFIDENCE) / 2))


def _compare(key: tuple[str, int, bool], reports: Sequence[DriftReport]) -> ArmComparison:
    found = [
        (report, each)
        for report in reports
        for each in report.arms
        if (each.arm, each.version, each.shadow) == key
    ]
    losses = [each.measures[0] for _, each in found if each.measures]
    labels = sum(each.labels for each in losses)
    counts: dict[int, int] = {}
    for _, each in found:
        for limit, count in (call_times.counts_of(each.call_times) if each.call_times else {}).items():
            counts[limit] = counts.get(limit, 0) + count
    arm, version, shadow = key
    is_champion = found[-1][1].is_champion
    requests = [] if is_champion else _requests(found, reports[-1].version)
    return ArmComparison(
        arm=arm,
        version=version,
        shadow=shadow,
        is_champion=is_champion,
        predictions=sum(each.predictions for _, each in found),
        failed=sum(each.failed for _, each in found),
        labels=sum(each.labels for _, each in found),
        loss=math.fsum(each.total for each in losses) / labels if labels else None,
        difference=_loss_difference(found, reports[-1].version),
        call_times=call_times.record_of(counts),
        failures=failure_difference((own, None if shadow else other) for own, other in requests),
        call_ratio=call_time_ratio(requests),
    )


def _requests(
    found: Sequence[tuple[DriftReport, ArmFigures]], champion: int
) -> list[tuple[RequestSums, RequestSums]]:
    """Return the requests of an arm, and the champion's, of the windows of a champion that have both."""
    pairs = (
        (each.requests, _champion_requests(report)) for report, each in found if report.version == champion
    )
    return [(own, other) for own, other in pairs if own and other]


def _loss_difference(found: Sequence[tuple[DriftReport, ArmFigures]], champion: int) -> LossDifference | None:
    """Return the difference over the windows of a champion, with the running figures of the last one."""
    windows = [
        (each.losses, None if each.shadow else _champion_losses(report))
        for report, each in found
        if each.losses and each.difference and report.version == champion
    ]
    merged = difference(windows, champion) if windows else None
    latest = found[-1][1].difference
    if merged is None or latest is None:
        return merged
    running = {
        name: getattr(latest, name) for name in ("running_labels", "running", "running_low", "running_high")
    }
    return msgspec.structs.replace(merged, **running)


def _champion_losses(report: DriftReport) -> LossSums:
    return added(each.losses for each in report.arms if each.is_champion and each.losses)


def _champion_requests(report: DriftReport) -> RequestSums | None:
    return added_requests(each.requests for each in report.arms if each.is_champion and each.requests)
