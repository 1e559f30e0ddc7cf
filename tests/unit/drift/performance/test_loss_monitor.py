"""The realised losses of a champion: recent means, and rises that ADWIN sees."""

import random

import msgspec
import pytest

from services.drift.performance.loss_monitor import LossMonitor, LossRiseDetector

DELTA = 0.002


def losses(seed=1, count=4000, mean=0.5, jump_at=None, jump=0.3):
    chance = random.Random(seed)
    for number in range(count):
        yield chance.expovariate(1 / (mean + (jump if jump_at is not None and number >= jump_at else 0)))


def test_the_detector_equals_adwin_of_river():
    from river.drift import ADWIN

    ours, theirs = LossRiseDetector(DELTA), ADWIN(delta=DELTA)
    found = []
    for number, loss in enumerate([*losses(jump_at=1500), *losses(seed=2)]):
        before = theirs.estimation
        theirs.update(loss)
        rose = ours.update(loss)
        assert rose == (theirs.drift_detected and theirs.estimation > before)
        assert ours.width == theirs.width
        assert ours.mean == theirs.estimation
        found += [number] if theirs.drift_detected else []
    assert len(found) >= 2


def test_a_rise_is_detected_and_a_fall_is_not():
    detector = LossRiseDetector(DELTA)
    assert any(detector.update(loss) for loss in losses(jump_at=2000))
    detector = LossRiseDetector(DELTA)
    assert not any(detector.update(loss) for loss in losses(mean=0.8, jump_at=2000, jump=-0.3))


def test_stationary_losses_are_no_rise():
    detector = LossRiseDetector(DELTA)
    assert not any(detector.update(loss) for loss in losses(count=30_000))


@pytest.mark.parametrize("cut", [1, 100, 2311, 3999])
def test_a_restored_detector_continues_exactly(cut):
    stream = list(losses(jump_at=2000))
    whole, first = LossRiseDetector(DELTA), LossRiseDetector(DELTA)
    expected = [whole.update(loss) for loss in stream]
    found = [first.update(loss) for loss in stream[:cut]]
    second = LossRiseDetector(DELTA, first.state())
    found += [second.update(loss) for loss in stream[cut:]]
    assert found == expected
    assert second.state() == whole.state()


def test_a_state_of_another_river_or_with_damaged_bytes_starts_empty():
    detector = LossRiseDetector(DELTA)
    for loss in losses(count=100):
        detector.update(loss)
    state = detector.state()
    for damage in ({"river_version": "0.0"}, {"data": state.data[:-1]}):
        changed = msgspec.structs.replace(state, **damage)
        assert not LossRiseDetector.can_restore(changed)
        assert LossRiseDetector(DELTA, changed).width == 0
    assert LossRiseDetector(DELTA, state).width == 100


def test_the_recent_loss_is_weighted_by_labels_and_skips_empty_windows():
    monitor = LossMonitor(DELTA, 0)
    for end_ms, values in ((10, [9.0]), (20, [1.0, 2.0]), (30, []), (40, [3.0])):
        for value in values:
            monitor.add(value)
        monitor.close_window(end_ms)
    assert monitor.recent_loss(2) == 2.0
    assert monitor.recent_start_ms(2) == 10
    assert monitor.recent_loss(3) == 15 / 4
    assert monitor.recent_loss(4) is None
    assert monitor.labels == 4


def test_a_change_is_dated_to_the_window_in_which_it_began():
    monitor, dated = LossMonitor(DELTA, 0), []
    for number, loss in enumerate(losses(jump_at=2000, jump=1.0)):
        if monitor.add(loss):
            dated.append(monitor.change_start_ms())
        if number % 100 == 99:
            monitor.close_window(number + 1)
    assert 1700 <= dated[0] <= 2100
