"""Intervals close in event time: labels are learned together, and empty intervals end when nothing waits."""

from typing import Any

import msgspec
import pytest

from services.learning.intervals import IntervalLearner, LearningOutputs
from services.learning.learner_state import LearnerState
from services.monitoring.label_join import LabelJoin
from streams import records
from tests.unit.learning import traffic
from tests.unit.learning.traffic import HOUR_MS, START_MS

END_MS = START_MS // (2 * HOUR_MS) * (2 * HOUR_MS) + 2 * HOUR_MS
"""End of the first interval of two hours."""


class Recorder:
    """An estimator that remembers the ids' numbers in the order in which it learns them."""

    def __init__(self) -> None:
        self.learned: list[float] = []

    def learn_one(self, x, y):
        if y < 0:
            raise ValueError("negative")
        self.learned.append(y)


class Setting:
    """One model with its labels."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, minimum_labels: int = 2) -> None:
        self.declaration = traffic.declaration(
            learning={"every_hours": 2, "effective_after_hours": 3, "minimum_labels": minimum_labels}
        )
        self.estimator, self.state = Recorder(), LearnerState()
        self.join = LabelJoin(self.declaration.label.horizon_ms, self.state.totals, keep_features=True)
        monkeypatch.setattr(
            "services.learning.intervals.river_format.encode", lambda model: repr(model.learned).encode()
        )
        self.subject = IntervalLearner(self.declaration, ["x", "colour"], lambda: self.estimator, self.state)

    def add(self, number: int, time_ms: int, value: float, features: int = 2) -> None:
        served = traffic.prediction(number, START_MS, [1.0, "red"][:features], 2.0, 0, number, "m")
        self.join.add_prediction(served, START_MS)
        label = records.Label(
            prediction_id=f"p{number}", event_time_ms=time_ms, value=value, source_partition=0,
            source_offset=number,
        )  # fmt: skip
        joined = self.join.add_label(label, time_ms)
        assert joined is not None
        self.subject.open(time_ms)
        self.subject.add(joined)

    def close_until(self, time_ms: int) -> LearningOutputs:
        outputs = LearningOutputs()
        self.subject.close_until(time_ms, self.join, outputs)
        return outputs


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Setting:
    return Setting(monkeypatch)


def test_labels_are_learned_by_time_then_id_when_the_interval_closes(setting: Setting) -> None:
    setting.add(2, END_MS - 1, 3.0)
    setting.add(3, END_MS - 9, 2.0)
    setting.add(1, END_MS - 9, 1.0)
    assert setting.close_until(END_MS - 1).intervals_closed == 0
    assert setting.estimator.learned == []
    outputs = setting.close_until(END_MS)
    assert setting.estimator.learned == [1.0, 2.0, 3.0]
    (published,) = outputs.published
    assert (published.version, published.interval_end_ms, published.labels) == (1, END_MS, 3)
    assert outputs.learned[0].starts_ms == END_MS + 3 * HOUR_MS


def test_a_label_that_is_corrected_within_its_interval_is_learned_with_its_last_value(
    setting: Setting,
) -> None:
    setting.add(1, END_MS - 9, 1.0)
    setting.add(2, END_MS - 8, 2.0)
    setting.add(1, END_MS - 7, 3.0)
    setting.add(1, END_MS - 6, 4.0)
    setting.close_until(END_MS)
    assert setting.estimator.learned == [2.0, 4.0]
    assert (setting.state.counts.learned, setting.state.counts.relearned) == (2, 0)


def test_a_label_that_is_corrected_later_is_learned_once_more(setting: Setting) -> None:
    setting.add(1, END_MS - 9, 1.0)
    loss = setting.close_until(END_MS).loss
    setting.add(1, END_MS + 1, 3.0)
    setting.add(1, END_MS + 2, 4.0)
    outputs = setting.close_until(END_MS + 2 * HOUR_MS)
    assert setting.estimator.learned == [1.0, 4.0]
    assert (setting.state.counts.learned, setting.state.counts.relearned) == (1, 1)
    assert (loss, outputs.loss) == (1.0, None)


def test_loss_is_the_mean_over_the_labels_of_the_interval(setting: Setting) -> None:
    setting.add(1, END_MS - 2, 3.0)
    setting.add(2, END_MS - 1, 5.0)
    assert setting.close_until(END_MS).loss == pytest.approx((1 + 3) / 2)
    assert setting.state.losses == (0, 0.0)


def test_version_is_published_once_enough_labels_are_learned(setting: Setting) -> None:
    setting.add(1, END_MS - 1, 1.0)
    assert setting.close_until(END_MS).published == []
    setting.add(2, END_MS + 1, 1.0)
    (published,) = setting.close_until(END_MS + 2 * HOUR_MS).published
    assert (published.version, published.labels) == (2, 2)


def test_failing_and_unfit_labels_are_counted_and_the_others_learned(setting: Setting) -> None:
    setting.add(1, END_MS - 3, -1.0)
    setting.add(2, END_MS - 2, 7.0, features=1)
    setting.add(3, END_MS - 1, 8.0)
    setting.close_until(END_MS)
    counts = setting.state.counts
    assert (counts.failed, counts.unfit, counts.learned) == (1, 1, 1)
    assert setting.estimator.learned == [8.0]


def test_no_interval_is_open_once_nothing_waits_for_labels(setting: Setting) -> None:
    """The horizon is three hours, so the predictions are evicted at the end of a later interval."""
    setting.add(1, END_MS - 1, 1.0)
    outputs = setting.close_until(END_MS + 100 * HOUR_MS)
    assert 1 <= outputs.intervals_closed <= 4
    assert setting.state.interval_end_ms is None
    setting.subject.open(END_MS + 101 * HOUR_MS)
    assert setting.state.first_ms == END_MS - 2 * HOUR_MS, "versions are numbered from the first interval"


@pytest.mark.parametrize("hours", [2, 3, 100, 301, 330])
def test_empty_intervals_are_closed_together(monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    """However far the stream is ahead, it takes two steps, and the state is that of closing one by one."""
    states = []
    for step_hours in (1, hours):
        setting = Setting(monkeypatch)
        evictions: list[int] = []
        evict = setting.join.evict

        def counted(now_ms: int, evictions: list[int] = evictions, evict: Any = evict) -> None:
            evictions.append(now_ms)
            evict(now_ms)

        monkeypatch.setattr(setting.join, "evict", counted)
        setting.join.waits_ms = 300 * HOUR_MS
        setting.add(1, END_MS - 1, 3.0)
        for passed in range(step_hours, hours + step_hours, step_hours):
            setting.close_until(END_MS + passed * HOUR_MS)
        states.append((setting.estimator.learned, msgspec.json.encode(setting.state), setting.join.totals))
    assert states[0] == states[1]
    assert len(evictions) <= 2
