"""Which arm answers which request. Pure: a function of the declared arms and the request's event time."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from streams.records import Arm


@dataclasses.dataclass(frozen=True)
class Routes:
    """The arms of one model, as the latest `ModelChanged` lists them."""

    champions: tuple[Arm, ...] = ()
    """By rising ``effective_from_ms``."""
    shadows: tuple[Arm, ...] = ()

    @classmethod
    def of(cls, arms: Sequence[Arm]) -> "Routes":
        """Sort out who answers and who only listens."""
        answering = sorted((arm for arm in arms if not arm.shadow), key=lambda arm: arm.effective_from_ms)
        return cls(tuple(answering), tuple(arm for arm in arms if arm.shadow))

    @property
    def versions(self) -> frozenset[int]:
        """All versions that have to be loaded."""
        return frozenset(arm.version for arm in (*self.champions, *self.shadows))

    def assign(self, event_times_ms: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return for each request the index of its champion, or -1 where none was in effect yet.

        Choosing by event time, not by arrival, gives a replay the same answers as the first run.
        """
        starts = np.array([arm.effective_from_ms for arm in self.champions], dtype=np.int64)
        return np.searchsorted(starts, event_times_ms, side="right").astype(np.int64) - 1
