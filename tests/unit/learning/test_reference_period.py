"""The reference is that of the first labelled predictions by event time, whatever the order of the input."""

import random
from typing import Any

import pytest
import structlog

from services.learning.learner import Learner
from services.learning.session import CHECKPOINTS
from streams import records
from tests.unit.learning import traffic
from tests.unit.learning.traffic import HOUR_MS, START_MS

HOURS = 24
LOGS = traffic.traffic(HOURS)
SCORED = sorted(
    (
        each
        for log in LOGS.predictions
        for each in log
        if isinstance(each, records.Prediction) and each.version
    ),
    key=lambda each: each.event_time_ms,
)
LABELLED = {each.prediction_id for log in LOGS.labels for each in log if isinstance(each, records.Label)}
LEARNING = {"every_hours": 2, "effective_after_hours": 3, "minimum_labels": 50}


def played(reference: dict[str, Any], chance: random.Random | None = None) -> Learner:
    """Play all traffic; with chances in random slices, with restarts from checkpoints."""
    changes: dict[str, Any] = {"learning": LEARNING | {"reference": reference}}
    learner, player = traffic.new_learner(**changes), traffic.Player(LOGS)
    while places := player.open:
        place = chance.choice(places) if chance else places[0]
        player.step(learner, place, chance.randrange(1, 60) if chance else 10**6)
        if chance and chance.random() < 0.1:
            assert len(learner.state().known_rows) <= reference.get("rows", 5000)
            state = CHECKPOINTS.decode(CHECKPOINTS.encode("m", "l", learner.state()), "m")
            learner = traffic.new_learner(state=state, **changes)
            player.seek(learner)
    return learner


def test_first_labelled_predictions_with_a_score_make_it() -> None:
    learner = played({"rows": 300})
    made = learner.reference
    rows = [each for each in SCORED if each.prediction_id in LABELLED][:300]
    assert made is not None
    assert made.score is not None
    assert made.score.edges is not None
    assert made.score.edges[0] == min(each.score or 0.0 for each in rows)
    assert [each.feature for each in made.features] == ["x", "colour"]
    assert made.features[0].missing == sum(each.features[0] is None for each in rows)
    assert set(made.features[1].categories or ()) == {"red", "green", "blue"}
    assert sum(made.score_sums["labels"]) == 300
    assert made.measures["absolute_error"] > 0
    assert learner.state().known_rows == []


def test_its_version_is_that_of_the_interval_in_which_the_horizon_of_its_rows_ended() -> None:
    learner = played({"rows": 300})
    made, first_ms = learner.reference, learner.first_ms
    rows = [each for each in SCORED if each.prediction_id in LABELLED][:300]
    assert made is not None
    assert first_ms is not None
    mature_ms = rows[-1].event_time_ms + 3 * HOUR_MS
    assert (
        first_ms + made.version * 2 * HOUR_MS - 2 * HOUR_MS
        <= mature_ms
        < first_ms + made.version * 2 * HOUR_MS
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_slices_and_restarts_change_nothing(seed: int) -> None:
    assert played({"rows": 400}, random.Random(seed)).reference == played({"rows": 400}).reference


def test_declared_period_bounds_the_rows() -> None:
    since_ms, until_ms = START_MS + 13 * HOUR_MS, START_MS + 20 * HOUR_MS
    learner = played({"since": traffic.utc(since_ms), "until": traffic.utc(until_ms)})
    rows = [
        each
        for each in SCORED
        if since_ms <= each.event_time_ms < until_ms and each.prediction_id in LABELLED
    ]
    assert learner.reference is not None
    assert sum(learner.reference.score_sums["labels"]) == len(rows)


def test_period_with_too_few_rows_gives_none_and_is_reported() -> None:
    with structlog.testing.capture_logs() as logs:
        learner = played({"until": traffic.utc(START_MS + 14 * HOUR_MS)})
    assert learner.reference is None
    assert [each["event"] for each in logs if each["log_level"] == "warning"] == [
        "learning.reference_missing"
    ]


def test_another_period_in_the_declaration_begins_anew() -> None:
    state = played({"rows": 300}).state()
    learner = traffic.new_learner(state=state, learning=LEARNING | {"reference": {"rows": 301}})
    assert learner.reference is None
    assert learner.counts.learned == state.counts.learned
