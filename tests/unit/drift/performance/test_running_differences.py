"""Running differences: intervals that hold at all times, for arms that answer beside one champion."""

import numpy as np
import pytest

from services.drift.performance import running_differences
from services.drift.performance.loss_baseline import LossBaseline
from services.drift.performance.running_differences import RunningDifferences
from services.drift.windows.arm_sums import ArmKey, ArmSums, ArmSumsState
from services.drift.windows.measure_sums import OWN, Comparison
from services.monitoring.model_metrics import MeasureRange, Measures
from tests.unit.drift.scenario import declaration

RANGE = MeasureRange(0.0, 4.0)
SHADOW, NEW = ArmKey("quiet", 3, shadow=True), ArmKey("new", 2)


def differences(states=(), loss_range=RANGE):
    baseline = LossBaseline(declaration(), Measures(declaration()))
    baseline.loss_range = loss_range
    return RunningDifferences(baseline, states)


def figures(found, key):
    return found.figures(key, 1)


def windows(count, *, labels=200, shadow=0.1, new=0.3, seed=1):
    """Yield for each window the arms and the champion's losses, whose means differ by these."""
    random = np.random.default_rng(seed)
    comparison = Comparison(1, RANGE)
    for _ in range(count):
        arms = {key: ArmSums(ArmSumsState(*key)) for key in (SHADOW, NEW, ArmKey("champion", 1))}
        for row, loss in enumerate(random.gamma(1, 0.5, labels).tolist()):
            block = row * 16 // labels
            arms[ArmKey("champion", 1)].compare(comparison.own(loss, block))
            arms[SHADOW].compare(comparison.paired(loss + shadow, loss, block), 1)
            arms[NEW].compare(comparison.own(float(random.gamma(1, 0.5)) + new, block))
        shown = {key: each.state() for key, each in arms.items()}
        yield [shown[SHADOW], shown[NEW]], shown[ArmKey("champion", 1)].compared[OWN]


def test_intervals_hold_the_differences_and_those_of_pairs_are_far_narrower():
    found, held = differences(), []
    for arms, champion in windows(30):
        found.add_window(arms, champion, 1)
        shadow, new = (figures(found, key) for key in (SHADOW, NEW))
        held += [shadow.low < 0.1 < shadow.high, new.low < 0.3 < new.high]
    assert all(held)
    assert (shadow.labels, new.labels) == (6000, 6000)
    assert shadow.mean == pytest.approx(0.1, abs=0.01)
    assert shadow.low > 0
    assert new.low > 0
    assert shadow.high - shadow.low < (new.high - new.low) / 2


def test_a_state_continues_and_another_champion_begins_anew():
    found = differences()
    given = list(windows(4))
    for arms, champion in given[:3]:
        found.add_window(arms, champion, 1)
    restored = differences(found.state())
    for each in (found, restored):
        each.add_window(given[3][0], given[3][1], 1)
    assert figures(found, NEW) == figures(restored, NEW)
    found.add_window([], None, 7)
    assert figures(found, NEW) is None
    assert found.state() == []


def test_without_a_range_or_labels_of_both_there_is_nothing_to_show():
    found = differences()
    ((arms, champion),) = windows(1)
    found.add_window(arms, None, 1)
    assert figures(found, NEW) is None
    assert figures(found, SHADOW) is not None
    found.add_window(arms, champion, 1)
    assert figures(differences(found.state(), loss_range=None), NEW) is None


def test_the_arms_with_the_latest_labels_are_kept(monkeypatch):
    monkeypatch.setattr(running_differences, "DIFFERENCES_MAX", 1)
    found = differences()
    ((arms, champion),) = windows(1)
    found.add_window(arms, champion, 1)
    assert [each.arm for each in found.state()] == ["new"]
