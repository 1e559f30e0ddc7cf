import dataclasses
import datetime as dt

import numpy as np
import pandas as pd
import pytest

from services.retraining.leak_search import leaks
from services.retraining.training_set import TrainingSet
from tests.unit.retraining import task_models
from tests.unit.retraining.training_data import declaration, training_set

ROWS = 2000


def with_feature(name: str, values, **others) -> TrainingSet:
    data = training_set(ROWS)
    return dataclasses.replace(data, features=data.features.assign(**{name: values}), **others)


def names(data: TrainingSet, task: str = "binary") -> list[str]:
    declared = declaration() if task == "binary" else task_models.declaration(task)
    return [each.feature for each in leaks(data, declared)]


def labels() -> np.ndarray:
    return training_set(ROWS).rows["label"].to_numpy()


def test_useful_features_are_no_leaks():
    assert names(training_set(ROWS)) == []


@pytest.mark.parametrize("sign", [1, -1])
def test_number_that_follows_the_label_leaks(sign: int):
    noise = 0.4 * np.random.default_rng(1).random(ROWS)

    assert names(with_feature("paid", sign * labels() + noise)) == ["paid"]


def test_number_whose_middle_tells_the_label_leaks():
    values = np.where(labels() == 1, 0, np.random.default_rng(1).choice([-5.0, 5.0], ROWS))

    assert names(with_feature("paid", values)) == ["paid"]


def test_text_that_tells_the_label_leaks():
    texts = np.where(labels() == 1, "late", "punctual").astype(object)

    assert names(with_feature("status", texts, text=["colour", "status"])) == ["status"]


def test_number_that_is_there_only_for_one_label_leaks():
    values = np.where(labels() == 1, np.random.default_rng(1).random(ROWS), np.nan)

    assert names(with_feature("refund", values)) == ["refund"]


def test_ids_tell_nothing_about_other_rows():
    ids = np.array([f"id{row}" for row in range(ROWS)], dtype=object)

    assert names(with_feature("id", ids, text=["colour", "id"])) == []


def test_time_after_the_event_leaks():
    events = training_set(ROWS).rows["event_time_ms"]
    times = [dt.datetime.fromtimestamp(each / 1000 + 60, dt.UTC) for each in events.tolist()]
    early = [each - dt.timedelta(hours=1) for each in times]

    assert names(with_feature("seen", pd.Series(times, dtype=object), times=["seen"])) == ["seen"]
    assert names(with_feature("seen", pd.Series([None, *early[1:]], dtype=object), times=["seen"])) == []


def test_share_of_ordered_pairs_is_declared():
    values = labels() + np.random.default_rng(1).random(ROWS) * 1.2
    strict = declaration(leak_score_max=0.9)

    assert names(with_feature("paid", values)) == []
    assert [each.feature for each in leaks(with_feature("paid", values), strict)] == ["paid"]


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_leaks_are_found_for_every_task(task: str):
    known = task_models.rows(task, ROWS)[1]
    data = with_feature("paid", known + 0)
    data.rows["label"] = known

    assert names(data, task) == ["paid"]
