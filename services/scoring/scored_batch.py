"""The result of scoring a batch of requests. Immutable: later steps read it and replace nothing."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from services.scoring.arm_router import NO_ARM
from services.scoring.load_failures import VersionNotLoadedError
from services.scoring.outputs import ModelOutputs
from streams import records

FeatureColumns = dict[str, npt.NDArray[Any]]
"""Columns (n,) by feature name, in the order of the model's features."""
EventTimes = npt.NDArray[np.int64]
"""(n,): Unix times in ms."""

COLLECTING = records.Arm(name="collecting", version=0, weight=10_000)
"""The arm of requests that came before any version was in effect: their features are read and logged."""


@dataclasses.dataclass(frozen=True)
class ScoredBatch:
    """The features and outputs of n requests; row i of each column belongs to request i."""

    ids: list[str]
    event_times_ms: EventTimes
    features: FeatureColumns
    """The features as read: missing values are missing here, whatever the model got in their place."""
    missing: Mapping[str, npt.NDArray[np.bool_]]
    """(n,) by feature: where it is missing; only features that are missing in some row."""
    lag_ms: npt.NDArray[np.int64]
    arms: Sequence[records.Arm]
    arm_of: npt.NDArray[np.int64]
    """(n,): the index of each request's arm in ``arms``; `NO_ARM` if no version was in effect."""
    outputs: ModelOutputs
    """nan for rows without a prediction."""
    failed: Mapping[int, str]
    """Rows without a prediction, with the reason."""
    rejected: frozenset[int]
    """Rows of ``failed`` whose request is at fault: it lacks what model.yaml or the model requires."""
    unavailable: Mapping[int, VersionNotLoadedError] = dataclasses.field(default_factory=dict)
    """Rows of ``failed`` whose version cannot answer now, nor can the champion: score them again later."""
    fallbacks: Mapping[int, records.Arm] = dataclasses.field(default_factory=dict)
    """Rows that the champion answered because the version of their arm cannot, with that arm."""
    call_us: Mapping[int, int] = dataclasses.field(default_factory=dict)
    """How long the call of each arm's version took, by the index of the arm."""
    feature_set: str = ""
    """Digest of the names of ``features``, see `streams.feature_sets`."""
    shadow_versions: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """The version of each shadow arm, by name."""

    def arm(self, row: int) -> records.Arm:
        """Return the arm of a request."""
        index = self.arm_of[row]
        return COLLECTING if index == NO_ARM else self.arms[index]

    def check_available(self, rows: range) -> None:
        """Raise the error of the first of these rows whose version cannot answer now."""
        for row, error in self.unavailable.items():
            if row in rows:
                raise error

    def rows_by_outcome(self) -> dict[str, int]:
        """Return the number of rows that a version ``scored``, and of those ``collected`` without one."""
        predicted = np.delete(self.arm_of, list(self.failed)) if self.failed else self.arm_of
        collected = int(np.count_nonzero(predicted == NO_ARM))
        found = {"scored": len(predicted) - collected, "collected": collected}
        return {outcome: count for outcome, count in found.items() if count}
