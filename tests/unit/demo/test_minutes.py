"""The account of the model that learns online."""

import random

import pytest

from services.demo import months
from services.demo.minutes import MinutesAccount
from services.model import DAY_MS, HOUR_MS, Learning
from streams import records

START_MS = months.SCORING_START_MS // DAY_MS * DAY_MS


def new_account() -> MinutesAccount:
    return MinutesAccount("m", "requests", Learning(every_hours=24, effective_after_hours=48))


def outcome(number: int, event_ms: int, label: float, score: float | None, partition: int = 0) -> bytes:
    return records.encode(
        records.Outcome(
            prediction_id=str(number), model="m", version=3, arm="champion", event_time_ms=event_ms,
            label_time_ms=event_ms + 5 * HOUR_MS, source_partition=partition, source_offset=number,
            label=label, score=score, loss=None,
        )
    )  # fmt: skip


def prediction(offset: int, score: float | None) -> bytes:
    return records.encode(
        records.Prediction(
            prediction_id=str(offset), model="m", version=0, arm="a", arm_weight=0, event_time_ms=0,
            scored_time_ms=0, source_partition=0, source_offset=offset, features=[], features_lag_ms=0,
            score=score, prediction=score,
        )
    )  # fmt: skip


def test_every_request_is_answered_once_or_told_of() -> None:
    account = new_account()
    account.add_predictions([prediction(0, None), prediction(1, 2.0), prediction(1, 2.0)])
    assert (account.collected, account.predicted, account.repeats) == (1, 1, 1)
    assert account.faults(3, 1) == []
    assert account.faults(4, 1) == [
        "m: 4 requests were sent, but 1 collected + 1 predicted + 1 dead letters = 3"
    ]


def test_running_mean_knows_what_the_version_could_know() -> None:
    """The answer of the fourth day may know the labels of the first, and none of the second's."""
    account = new_account()
    rows = [(0, 10.0, None), (1, 500.0, None), (3, 14.0, 13.0)]
    account.add_outcomes([outcome(n, START_MS + day * DAY_MS, y, s) for n, (day, y, s) in enumerate(rows)])
    (month,) = account.months()
    assert (month.labels, month.mae_live, month.mae_running_mean) == (1, 1.0, 4.0)


@pytest.mark.parametrize("seed", range(3))
def test_order_of_the_partitions_does_not_change_the_months(seed: int) -> None:
    chance = random.Random(seed)
    logs = [
        [
            outcome(n, START_MS + n * HOUR_MS, chance.gauss(0, 30), chance.gauss(0, 5), home)
            for n in range(400)
        ]
        for home in range(2)
    ]
    straight, mixed = new_account(), new_account()
    for log in logs:
        straight.add_outcomes(log)
    for step in range(0, 400, 50):
        for log in reversed(logs):
            mixed.add_outcomes(log[step : step + 50])
    assert mixed.months() == straight.months()
