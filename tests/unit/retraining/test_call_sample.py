import dataclasses
import itertools

import numpy as np

from services.retraining import call_sample


@dataclasses.dataclass
class Recorder:
    """A model that remembers the rows of its calls, and lets time pass."""

    milliseconds: int
    clock: list[int]
    size_bytes: int = 7
    calls: list[list[float]] = dataclasses.field(default_factory=list)

    def predict(self, columns):
        self.clock[0] += self.milliseconds
        self.calls.append(columns["x"].tolist())
        return np.zeros(len(columns["x"]))


def test_both_models_are_called_in_turn_with_the_same_rows():
    now = [0]
    candidate, champion = Recorder(3, now), Recorder(2, now, size_bytes=9)
    own, other = call_sample.measure(
        candidate, champion, {"x": np.arange(40.0)}, calls=10, clock=lambda: now[0] / 1000
    )

    assert candidate.calls == champion.calls
    assert len(candidate.calls) == 10 + call_sample.WARM_UP
    assert candidate.calls[1] == [float(row) for row in range(16, 32)]
    assert other is not None
    assert np.allclose(own.seconds, 0.003)
    assert np.allclose(other.seconds, 0.002)
    assert (own.size_bytes, other.size_bytes) == (7, 9)


def test_without_a_champion_the_candidate_is_timed_alone():
    ticks = itertools.count()
    own, other = call_sample.measure(
        Recorder(1, [0]), None, {"x": np.ones(3)}, calls=2, clock=lambda: next(ticks)
    )

    assert other is None
    assert own.seconds.tolist() == [1.0, 1.0]
