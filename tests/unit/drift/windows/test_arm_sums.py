"""Sums by arm: exact whatever the order and the batches, bounded, and merged without loss."""

import random

import msgspec
import pytest

from services.drift.performance.exact_sums import ExactMean
from services.drift.windows import arm_sums
from services.drift.windows.arm_sums import ArmKey, ArmSums, ArmSumsState
from services.drift.windows.measure_sums import MeasureSums

KEY = ArmKey("champion", 1)


def rows(count):
    chance = random.Random(4)
    return [
        ([chance.expovariate(1), chance.random() * 1e-9], chance.random(), [chance.choice("ab")])
        for _ in range(count)
    ]


def summed(labels, restart_every=10**9):
    sums = ArmSums(ArmSumsState(*KEY))
    for number, (values, loss, segments) in enumerate(labels):
        sums.add(values, loss, segments, is_right=loss > 0.5)
        if number % restart_every == restart_every - 1:
            kept = msgspec.msgpack.encode(sums.state())
            sums = ArmSums(msgspec.msgpack.decode(kept, type=ArmSumsState))
    return sums.state()


def figures(state):
    """Return everything that a report shows of a state."""
    return (
        state.labels, state.answers, state.answers_right, sorted(state.segment_labels.items()),
        [(each.total.count, each.total.sum, each.squares.sum) for each in state.measures],
        sorted((name, each.count, each.value) for name, each in state.segment_losses.items()),
    )  # fmt: skip


def test_sums_do_not_depend_on_order_batches_or_restarts(monkeypatch):
    labels = rows(300)
    expected = figures(summed(labels))
    monkeypatch.setattr(arm_sums, "BUFFERED_MAX", 7)
    shuffled = random.Random(1).sample(labels, len(labels))
    assert figures(summed(shuffled)) == figures(summed(labels, restart_every=11)) == expected


def test_merged_sums_are_those_of_all_labels():
    labels = rows(50)
    parts = [summed(labels[:20]), summed(labels[20:]), ArmSumsState("new", 2)]
    assert figures(arm_sums.merged(parts)) == figures(summed(labels))


def test_a_measure_that_is_not_finite_is_refused_with_its_label():
    sums = ArmSums(ArmSumsState(*KEY))
    with pytest.raises(OverflowError):
        sums.add([float("inf")])
    assert sums.state() == ArmSumsState(*KEY)


def test_an_older_state_of_a_shadow_has_its_loss_only_and_goes_on_with_all_measures():
    loss = MeasureSums(ExactMean.of([0.25]))
    sums = ArmSums(ArmSumsState("new", 0, shadow=True, labels=1, measures=[loss]))
    sums.add([0.75, 1.0])
    state = sums.state()
    assert [(each.total.count, each.total.sum) for each in state.measures] == [(2, 1.0), (1, 1.0)]
    assert figures(arm_sums.merged([summed([]), ArmSumsState("new", 0, measures=[loss]), state]))[0] == 2
