"""The champion's losses before the declared detectors of river."""

from services.drift.detectors.loss_watchers import LossWatchers
from services.drift.performance.loss_baseline import LossBaseline
from services.monitoring.model_metrics import Measures
from tests.unit.drift import scenario


def watchers(detectors=(), states=None):
    declaration = scenario.declaration(detectors=list(detectors))
    baseline = LossBaseline(declaration, Measures(declaration))
    baseline.follow(scenario.reference(log_loss=0.5))
    return LossWatchers(baseline, declaration.monitoring, states)


def changes(watched, start, stop, *, wrong):
    found = []
    for minute in range(start, stop):
        found += watched.add(0.5, minute * 60_000, wrong=wrong(minute))
    return found


def test_without_declared_detectors_nothing_is_found():
    watched = watchers()
    assert changes(watched, 0, 500, wrong=lambda minute: minute > 250) == []
    assert watched.state() == {}


def test_detector_of_errors_is_given_errors_instead_of_losses():
    """The losses stay the same; only the share of wrong predictions rises."""
    watched = watchers(["ddm"])
    assert changes(watched, 0, 500, wrong=lambda minute: minute % 5 == 0) == []
    found = changes(watched, 500, 1000, wrong=lambda minute: minute % 5 != 0)
    assert {name for name, _ in found} == {"river-ddm"}


def test_states_continue_where_they_were():
    watched = watchers(["ddm"])
    changes(watched, 0, 500, wrong=lambda minute: minute % 5 == 0)
    restored = watchers(["ddm"], watched.state())
    assert changes(restored, 500, 700, wrong=bool) == changes(watched, 500, 700, wrong=bool)


def test_state_of_a_detector_that_is_no_longer_declared_is_left_out():
    watched = watchers(["ddm"])
    assert watchers(["adwin"], watched.state()).state().keys() == {"river-adwin"}
