"""Exact sums over the predictions and labels of one window, for each arm and version apart. Pure."""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from services.drift.performance.exact_sums import ExactMean
from services.monitoring import call_times
from services.monitoring.arm_comparison import BLOCKS
from services.monitoring.model_metrics import MeasureRange, Measures, NumericPrediction
from services.monitoring.pending_predictions import PendingPrediction
from streams import records

ARMS_MAX = 64
"""Maximum arms and versions of a window: a day of a model that learns hourly, with its challengers. All
further ones share an entry without a name."""
BUFFERED_MAX = 1024
"""Labels in the buffer before they are summed together: five times cheaper than one by one."""
SQUARE_MAX = 1e300
"""Squares are cut here, because a sum of squares must stay finite."""


class ArmKey(NamedTuple):
    """One version in one arm."""

    arm: str
    version: int
    shadow: bool = False


OTHERS = ArmKey("", 0)
"""Takes the place of all arms after the first `ARMS_MAX`."""


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


class ArmSumsState(msgspec.Struct, array_like=True):
    """All that an `ArmSums` knows."""

    arm: str
    version: int
    shadow: bool = False
    predictions: int = 0
    labels: int = 0
    answers: int = 0
    """Labels whose prediction has a predicted value."""
    answers_right: int = 0
    """Those labels that equal the predicted value."""
    measures: list[MeasureSums] = []
    """Sums of each measure, in their order; empty before the first label with values. In a state of an older
    version, only the loss of a shadow."""
    segment_labels: dict[str, int] = {}
    segment_losses: dict[str, ExactMean] = {}
    """The loss that outcomes hold, by segment."""
    failed: int = 0
    """Requests of this arm that its version did not answer."""
    call_times: dict[int, int] = {}
    """Predictions by the limit of the time that the model's call took, see `call_times`."""
    compared: dict[int, ComparedSums] = {}
    """Of a shadow: differences from the loss of a champion, by its lineage. Of another arm: its losses, under
    `OWN`."""


OWN = 0
"""Takes the place of a champion's lineage for the losses of an arm itself."""


class ArmSums:
    """The sums of one version in one arm."""

    def __init__(self, state: ArmSumsState) -> None:
        """Start empty, or from a state."""
        self._state = state
        self._values: list[Sequence[float]] = []
        self._segment_losses: dict[str, list[float]] = {}
        self._compared: dict[int, list[ComparedLoss]] = {}

    def count(self, predictions: int, failed: int = 0) -> None:
        """Count predictions, and requests that the version did not answer."""
        self._state.predictions += predictions
        self._state.failed += failed

    def count_calls(self, call_us: int, predictions: int) -> None:
        """Count predictions for which the model's call took this long."""
        limit_us, counts = call_times.limit_of(call_us), self._state.call_times
        counts[limit_us] = counts.get(limit_us, 0) + predictions

    def compare(self, loss: ComparedLoss, lineage: int = OWN) -> None:
        """Add one label's loss, or its difference from that of the champion of a lineage."""
        self._compared.setdefault(lineage, []).append(loss)

    def add(
        self,
        values: Sequence[float] | None,
        loss: float | None = None,
        segments: Sequence[str] = (),
        *,
        is_right: bool | None = None,
    ) -> None:
        """Add one label.

        Args:
            values: Of each measure; None without a score.
            loss: That of the outcome.
            segments: Those of the prediction.
            is_right: Whether the label equals the predicted value; None without one.

        Raise `OverflowError` if a value is not finite.
        """
        if values is not None and not all(map(math.isfinite, values)):
            raise OverflowError("a measure of this prediction is not finite")
        state = self._state
        state.labels += 1
        if is_right is not None:
            state.answers += 1
            state.answers_right += is_right
        for name in segments:
            state.segment_labels[name] = state.segment_labels.get(name, 0) + 1
            if loss is not None:
                self._segment_losses.setdefault(name, []).append(loss)
        if values is not None:
            self._values.append(values)
            if len(self._values) >= BUFFERED_MAX:
                self.state()

    def state(self) -> ArmSumsState:
        """Return what `__init__` takes."""
        if self._values:
            state = self._state
            _extend(state.measures, len(self._values[0]))
            for sums, column in zip(state.measures, zip(*self._values, strict=True), strict=True):
                sums.add(column)
            for name, losses in self._segment_losses.items():
                state.segment_losses.setdefault(name, ExactMean()).add_all(np.array(losses))
            self._values, self._segment_losses = [], {}
        for lineage, compared in self._compared.items():
            self._state.compared.setdefault(lineage, ComparedSums()).add(compared)
        self._compared = {}
        return self._state


class WindowArms:
    """The arms of one window."""

    def __init__(self, states: Iterable[ArmSumsState]) -> None:
        """Start with the arms of a snapshot."""
        self._arms = {ArmKey(each.arm, each.version, each.shadow): ArmSums(each) for each in states}

    def of(self, key: ArmKey) -> ArmSums:
        """Return the sums of an arm, to be changed."""
        found = self._arms.get(key)
        if found is None:
            if len(self._arms) >= ARMS_MAX:
                key = OTHERS
            found = self._arms.setdefault(key, ArmSums(ArmSumsState(*key)))
        return found

    def count(self, predictions: Sequence[records.Prediction], fallbacks: dict[str, int]) -> None:
        """Count predictions by arm and version, those of the shadows too.

        ``fallbacks`` are the requests of each arm that the champion answered, to be changed.
        """
        counts = Counter([(each.arm, each.version, each.call_us) for each in predictions])
        for (name, version, call_us), count in counts.items():
            arm = self.of(ArmKey(name, version))
            arm.count(count)
            if call_us is not msgspec.UNSET:
                arm.count_calls(call_us, count)
        replaced = Counter(
            [
                (each.fallback_from, 0 if each.fallback_version is msgspec.UNSET else each.fallback_version)
                for each in predictions
                if each.fallback_from is not msgspec.UNSET
            ]
        )
        for (name, version), count in replaced.items():
            self.of(ArmKey(name, version)).count(0, failed=count)
            fallbacks[name] = fallbacks.get(name, 0) + count
        self._count_shadows([each for each in predictions if each.shadow_scores or each.shadow_versions])

    def _count_shadows(self, predictions: Sequence[records.Prediction]) -> None:
        """Count the predictions of shadows, and the requests that they have not scored."""
        counts = Counter(itertools.chain.from_iterable(map(_shadows, predictions)))
        for (name, version, is_scored, call_us), count in counts.items():
            shadow = self.of(ArmKey(name, version, shadow=True))
            shadow.count(count * is_scored, failed=count * (not is_scored))
            if call_us is not None:
                shadow.count_calls(call_us, count)

    def states(self) -> list[ArmSumsState]:
        """Return the state of each arm, in order."""
        return [self._arms[key].state() for key in sorted(self._arms)]


def _shadows(prediction: records.Prediction) -> list[tuple[str, int, bool, int | None]]:
    """Return each shadow: name, version (0 is unknown), whether it has a score, and the time of its call.

    A request that no version answered has no shadows.
    """
    if not prediction.version:
        return []
    scores = prediction.shadow_scores
    versions = {} if prediction.shadow_versions is msgspec.UNSET else prediction.shadow_versions
    times_us = {} if prediction.shadow_call_us is msgspec.UNSET else prediction.shadow_call_us
    found = [(name, versions.get(name, 0), True, times_us.get(name)) for name in scores]
    return found + [(name, version, False, None) for name, version in versions.items() if name not in scores]


def block_of(label_time_ms: int, start_ms: int, end_ms: int) -> int:
    """Return the block of a window in which a label became known."""
    block = (label_time_ms - start_ms) * BLOCKS // (end_ms - start_ms)
    return min(max(block, 0), BLOCKS - 1)


def _extend(measures: list[MeasureSums], length: int) -> None:
    measures += [MeasureSums() for _ in range(length - len(measures))]


def merged(states: Iterable[ArmSumsState]) -> ArmSumsState:
    """Return the sums over several arms, as one."""
    whole = ArmSumsState("", 0)
    for each in states:
        whole.predictions += each.predictions
        whole.labels += each.labels
        whole.answers += each.answers
        whole.answers_right += each.answers_right
        _extend(whole.measures, len(each.measures))
        for sums, more in zip(whole.measures, each.measures, strict=False):
            sums.total.merge(more.total)
            sums.squares.merge(more.squares)
        for name, labels in each.segment_labels.items():
            whole.segment_labels[name] = whole.segment_labels.get(name, 0) + labels
        for name, losses in each.segment_losses.items():
            whole.segment_losses.setdefault(name, ExactMean()).merge(losses)
        for lineage, compared in each.compared.items():
            whole.compared.setdefault(lineage, ComparedSums()).merge(compared)
    return whole


def compared_with(state: ArmSumsState, lineage: int) -> ComparedSums | None:
    """Return the sums with which an arm is compared with the champion of a lineage; None without labels."""
    return state.compared.get(lineage if state.shadow else OWN)


def figures_of(
    state: ArmSumsState,
    measures: Measures,
    losses: ComparedSums | None = None,
    difference: records.LossDifference | None = None,
    *,
    is_champion: bool = False,
) -> records.ArmFigures:
    """Return the figures of an arm for a report; ``losses`` are those of `compared_with`."""
    return records.ArmFigures(
        arm=state.arm,
        version=state.version,
        shadow=state.shadow,
        is_champion=is_champion,
        predictions=state.predictions,
        labels=state.labels,
        measures=[
            records.MeasureFigures(
                measure=name,
                labels=sums.total.count,
                total=sums.total.sum,
                squares=sums.squares.sum if sums.squares.count == sums.total.count else None,
            )
            for name, sums in zip(measures.names, state.measures, strict=False)
            if sums.total.count
        ],
        failed=state.failed,
        call_times=call_times.record_of(state.call_times),
        losses=losses.record() if losses else None,
        difference=difference,
    )


class Comparison(NamedTuple):
    """With what the losses of a labelled prediction are compared."""

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


def shadow_values(entry: PendingPrediction, label: float, measures: Measures) -> dict[ArmKey, list[float]]:
    """Return the value of each measure for the predictions of the shadows."""
    found = {}
    for name, score in entry.shadow_scores.items():
        if (answer := _shadow_answer(entry, name, score, measures)) is not None:
            key = ArmKey(name, entry.shadow_versions.get(name, 0), shadow=True)
            found[key] = measures.values(answer, label)
    return found


def _shadow_answer(
    entry: PendingPrediction, name: str, score: float, measures: Measures
) -> NumericPrediction | None:
    """Return the prediction of a shadow; None if it lacks the probability of each class declared now."""
    if measures.task != "multiclass":
        return NumericPrediction(score, measures.predicted_value(score))
    probabilities = entry.shadow_probabilities.get(name, [])
    if len(probabilities) != len(measures.classes):
        return None
    return NumericPrediction(score, float(np.argmax(probabilities)), probabilities)
