"""The account of the model that learns online."""

import random

import pytest

from services.demo import months
from services.demo.minutes import MinutesAccount
from services.runtime.declaration import DAY_MS, HOUR_MS, Learning
from streams import records

START_MS = months.SCORING_START_MS // DAY_MS * DAY_MS


def new_account(known_labels: dict[str, tuple[int, float]] | None = None) -> MinutesAccount:
    return MinutesAccount("m", Learning(every_hours=24, effective_after_hours=48), lambda: known_labels or {})


def prediction(number: int, score: float | None, event_ms: int = START_MS, partition: int = 0) -> bytes:
    return records.encode(
        records.Prediction(
            prediction_id=f"{partition}-{number}", model="m", version=3, arm="a", arm_weight=0,
            event_time_ms=event_ms, scored_time_ms=0, source_partition=partition, source_offset=number,
            features=[], features_lag_ms=0, score=score, prediction=score,
        )
    )  # fmt: skip


def test_missing_prediction_is_an_error() -> None:
    account = new_account()
    account.add_predictions([prediction(0, None), prediction(1, 2.0), prediction(1, 2.0)])
    assert (account.collected, account.predicted, account.repeats) == (1, 1, 1)
    assert account.faults(3, 1) == []
    assert account.faults(4, 1) == [
        "m: 4 requests were sent, but 1 collected + 1 predicted + 1 dead letters = 3"
    ]


def test_record_that_does_not_decode_is_not_counted() -> None:
    account = new_account()
    account.add_predictions([b"\xff", prediction(0, None), b'{"version": "one"}', prediction(1, 2.0)])
    assert (account.collected, account.predicted, account.repeats) == (1, 1, 0)


def test_running_mean_knows_what_the_version_could_know() -> None:
    """The answer of the fourth day may know the labels of the first, and none of the second's."""
    labels = [(0, 10.0), (1, 500.0), (3, 14.0)]
    known_labels = {f"0-{n}": (START_MS + day * DAY_MS + HOUR_MS, y) for n, (day, y) in enumerate(labels)}
    account = new_account(known_labels)
    account.add_predictions(
        [prediction(0, None), prediction(2, 13.0, START_MS + 3 * DAY_MS), prediction(3, 1.0)]
    )
    (month,) = account.months()
    assert (month.labels, month.mae_live, month.mae_running_mean) == (1, 1.0, 4.0)


@pytest.mark.parametrize("seed", range(3))
def test_order_of_the_partitions_does_not_change_the_months(seed: int) -> None:
    chance = random.Random(seed)
    times = {f"{home}-{n}": START_MS + n * HOUR_MS for home in range(2) for n in range(400)}
    known_labels = {name: (at_ms + 5 * HOUR_MS, chance.gauss(0, 30)) for name, at_ms in times.items()}
    logs = [
        [prediction(n, chance.gauss(0, 5), START_MS + n * HOUR_MS, home) for n in range(400)]
        for home in range(2)
    ]
    straight, mixed = new_account(known_labels), new_account(known_labels)
    for log in logs:
        straight.add_predictions(log)
    for step in range(0, 400, 50):
        for log in reversed(logs):
            mixed.add_predictions(log[step : step + 50])
    assert mixed.months() == straight.months()
