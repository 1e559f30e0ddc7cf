"""What labels count for where only frauds have them: nothing before all payments of their time count."""

import math
import random
from typing import Any

import pytest

from services.runtime.declaration import ModelDeclaration
from streams import records
from tests.unit.drift import scenario
from tests.unit.drift.scenario import HOUR_MS, START_MS, Traffic

HOURS, A_HOUR = 6, 300
HORIZON_MS = 3 * HOUR_MS
END_MS = START_MS + (HOURS + 7) * HOUR_MS


class Frauds:
    """Payments of which few are frauds, as their scores say; chargebacks come within the horizon."""

    def __init__(self) -> None:
        chance = random.Random(3)
        predictions: list[Any] = []
        labels: list[tuple[int, int]] = []
        self.losses: dict[int, list[float]] = {}
        """Loss of each payment by the start of its hour."""
        for number in range(HOURS * A_HOUR):
            time_ms, score = START_MS + number * HOUR_MS // A_HOUR, chance.choice((0.01, 0.01, 0.2))
            predictions.append(scenario.prediction(number, time_ms, score=score))
            is_fraud = chance.random() < score
            loss = -math.log(score if is_fraud else 1 - score)
            self.losses.setdefault(time_ms // HOUR_MS * HOUR_MS, []).append(loss)
            if is_fraud:
                labels.append((time_ms + chance.randrange(HOUR_MS, HORIZON_MS), number))
        known = [
            scenario.label(number, time_ms, 1.0, offset=offset)
            for offset, (time_ms, number) in enumerate(sorted(labels))
        ]
        self.frauds = len(known)
        self.traffic = Traffic(
            [scenario.numbered([*predictions, END_MS])], [scenario.numbered([*known, END_MS])]
        )

    def play(self, absent: int | None) -> Any:
        """Return what drift makes of them, with the meaning of an absent label."""
        document = scenario.document()
        document["label"]["absent"] = absent
        engine = scenario.new_engine(ModelDeclaration.model_validate(document))
        return scenario.play(engine, self.traffic)


@pytest.fixture(scope="module")
def frauds() -> Frauds:
    return Frauds()


def performances(drift: list[Any], state: str) -> list[records.PerformanceReport]:
    return [each for each in drift if isinstance(each, records.PerformanceReport) and each.state == state]


def realised(report: records.PerformanceReport) -> float:
    found = report.segments[0].figures[0].realised
    assert found is not None
    return found


def test_shown_loss_is_the_true_one_whenever_it_is_shown(frauds: Frauds) -> None:
    drift = frauds.play(absent=0).drift
    provisional, complete = performances(drift, "provisional"), performances(drift, "complete")
    assert (len(provisional), len(complete)) == (HOURS, HOURS)
    assert all(not each.labels and each.segments[0].figures[0].realised is None for each in provisional)
    for each in complete:
        losses = frauds.losses[each.window_start_ms]
        assert each.as_of_ms == each.window_end_ms + HORIZON_MS
        assert (each.labels, each.predictions) == (len(losses), len(losses))
        assert realised(each) == pytest.approx(sum(losses) / len(losses), rel=1e-3)


def test_without_the_declaration_the_shown_loss_is_that_of_the_frauds(frauds: Frauds) -> None:
    drift = frauds.play(absent=None).drift
    shown = [realised(each) for each in performances(drift, "complete") + performances(drift, "mature")]
    true = [loss for losses in frauds.losses.values() for loss in losses]
    assert min(shown) > 5 * sum(true) / len(true)


def test_windows_count_each_payment_once_when_its_horizon_ends(frauds: Frauds) -> None:
    outputs = frauds.play(absent=0)
    reports = [each for each in outputs.drift if isinstance(each, records.DriftReport) and not each.revision]
    counted = {each.window_start_ms: each.labels for each in reports if each.labels}
    assert counted == {start_ms + HORIZON_MS: len(losses) for start_ms, losses in frauds.losses.items()}
    for each in reports:
        if each.labels:
            losses = frauds.losses[each.window_start_ms - HORIZON_MS]
            assert each.log_loss == pytest.approx(sum(losses) / len(losses), rel=1e-3)


def test_outcomes_are_written_for_labels_alone_and_at_once(frauds: Frauds) -> None:
    outcomes = [each for log in frauds.play(absent=0).outcomes.values() for each in log]
    assert len(outcomes) == frauds.frauds
    assert {(each.label, each.correction) for each in outcomes} == {(1.0, 0)}
    assert all(each.loss is not None for each in outcomes)
