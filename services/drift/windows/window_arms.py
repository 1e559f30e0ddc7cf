"""The arms of one window: their predictions, and those of their shadows. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from services.drift.windows.arm_sums import ArmKey, ArmSums, ArmSumsState
from services.monitoring.model_metrics import Measures, NumericPrediction
from services.monitoring.pending_predictions import PendingPrediction
from streams import records

ARMS_MAX = 64
"""Maximum arms and versions of a window: a day of a model that learns hourly, with its challengers. All
further ones share an entry without a name."""
OTHERS = ArmKey("", 0)
"""Takes the place of all arms after the first `ARMS_MAX`."""


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

    def count(
        self, predictions: Sequence[records.Prediction], blocks: Sequence[int], fallbacks: dict[str, int]
    ) -> None:
        """Count predictions by arm and version, those of the shadows too.

        Args:
            predictions: Predictions of the window.
            blocks: The block of the window in which each of them is.
            fallbacks: The requests of each arm that the champion answered, to be changed.
        """
        counts = Counter(
            [
                (each.arm, each.version, each.call_us, block)
                for each, block in zip(predictions, blocks, strict=True)
            ]
        )
        for (name, version, call_us, block), count in counts.items():
            arm = self.of(ArmKey(name, version))
            arm.count(block, count)
            if call_us is not msgspec.UNSET:
                arm.count_calls(block, call_us, count)
        replaced = Counter(
            [
                (each.fallback_from, each.fallback_version, block)
                for each, block in zip(predictions, blocks, strict=True)
                if each.fallback_from is not msgspec.UNSET
            ]
        )
        for (name, replaced_version, block), count in replaced.items():
            version = 0 if replaced_version is msgspec.UNSET else replaced_version
            self.of(ArmKey(name, version)).count(block, 0, failed=count)
            fallbacks[name] = fallbacks.get(name, 0) + count
        self._count_shadows(predictions, blocks)

    def _count_shadows(self, predictions: Sequence[records.Prediction], blocks: Sequence[int]) -> None:
        """Count the predictions of shadows, and the requests that they have not scored."""
        counts = Counter(
            [
                (*shadow, block)
                for each, block in zip(predictions, blocks, strict=True)
                if each.shadow_scores or each.shadow_versions
                for shadow in _shadows(each)
            ]
        )
        for (name, version, is_scored, call_us, block), count in counts.items():
            shadow = self.of(ArmKey(name, version, shadow=True))
            shadow.count(block, count * is_scored, failed=count * (not is_scored))
            if call_us is not None:
                shadow.count_calls(block, call_us, count)

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
