"""Which prediction a label is joined with, and what is counted."""

from typing import Any

import msgspec
import pytest

from services.monitoring.label_join import (
    SKEW_MS_MAX,
    Joined,
    JoinTotals,
    LabelJoin,
    at_prediction,
    numeric_prediction,
    outcome_of,
)
from services.monitoring.model_metrics import Measures, NumericPrediction
from services.monitoring.pending_predictions import PendingPrediction, PendingPredictions
from services.monitoring.waiting_labels import WAIT_MS
from services.runtime.declaration import ModelDeclaration
from streams import records
from streams.repeats import RepeatFilter
from tests.unit.drift import scenario
from tests.unit.drift.scenario import HOUR_MS, START_MS

HORIZON_MS = 3 * HOUR_MS


def measures(task: str = "binary", **business: Any) -> Measures:
    document = scenario.document() | {"task": task}
    if task == "multiclass":
        del document["gates"], document["label"]["positive_above"]
        document["classes"] = ["a", "b", "c"]
    if business:
        document["business"] = {"unit": "USD"} | business
    return Measures(ModelDeclaration.model_validate(document))


@pytest.fixture
def totals() -> JoinTotals:
    return JoinTotals()


@pytest.fixture
def join(totals: JoinTotals) -> LabelJoin:
    joined = LabelJoin(HORIZON_MS, totals)
    for number in range(3):
        time_ms = START_MS + number * HOUR_MS
        joined.add_prediction(scenario.prediction(number, time_ms), time_ms)
    return joined


def label(number: int, time_ms: int, value: float = 1.0) -> records.Label:
    found: records.Label = scenario.label(number, time_ms, value, offset=number)
    return found


def add(join: LabelJoin, known: records.Label) -> Joined | None:
    return join.add_label(known, known.event_time_ms)


def added(join: LabelJoin, counts_at_ms: int) -> Joined | None:
    """Add the prediction p5; return it with its label, if that waits."""
    entry = join.add_prediction(scenario.prediction(5, START_MS), counts_at_ms)
    return None if entry is None else join.take_waiting(entry)


def test_a_label_is_joined_by_its_id(join: LabelJoin, totals: JoinTotals) -> None:
    joined = join.add_label(label(1, START_MS + 2 * HOUR_MS), START_MS + 2 * HOUR_MS)
    assert joined is not None
    entry = joined.entry
    assert (entry.prediction_id, entry.event_time_ms) == ("p1", START_MS + HOUR_MS)
    assert (totals.predictions, totals.joined) == (3, 1)


@pytest.mark.parametrize(("late_ms", "joined"), [(0, 1), (1, 0)])
def test_a_label_after_the_horizon_is_orphaned(
    join: LabelJoin, totals: JoinTotals, late_ms: int, joined: int
) -> None:
    add(join, label(0, START_MS + HORIZON_MS + late_ms))
    assert (totals.joined, totals.orphaned) == (joined, 1 - joined)


@pytest.mark.parametrize(
    ("labels", "value", "counts"),
    [
        ([(1, 1.0), (1, 1.0), (2, 1.0)], 1.0, (0, 2, 0)),
        ([(1, 1.0), (2, 0.0)], 0.0, (1, 0, 0)),
        ([(1, 1.0), (1, 0.0)], 0.0, (1, 0, 0)),
        ([(2, 1.0), (1, 0.0)], 1.0, (0, 0, 1)),
        ([(1, 1.0), (3, 1.0), (2, 0.0)], 1.0, (0, 1, 1)),
        ([(1, 1.0), (3, 0.0), (2, 1.0), (4, 1.0)], 1.0, (2, 0, 1)),
    ],
)
def test_of_several_labels_the_latest_by_event_time_counts(
    join: LabelJoin,
    totals: JoinTotals,
    labels: list[tuple[int, float]],
    value: float,
    counts: tuple[int, ...],
) -> None:
    found = [add(join, label(0, START_MS + time_ms, given)) for time_ms, given in labels]
    last = [each for each in found if each is not None][-1]
    assert last.label.value == value
    assert totals.joined == 1
    assert (totals.corrected, totals.duplicate, totals.superseded) == counts


def test_a_correction_says_what_it_replaces(join: LabelJoin) -> None:
    first, second, third = (
        add(join, label(0, START_MS + time_ms, value)) for time_ms, value in ((-5, 1.0), (7, 0.0), (9, 1.0))
    )
    assert first is not None
    assert second is not None
    assert third is not None
    assert first.corrects is None
    assert second.corrects == (1, 1.0, START_MS)
    assert third.corrects == (2, 0.0, START_MS + 7)


def test_a_label_of_an_older_snapshot_is_corrected_and_its_time_is_not_known(join: LabelJoin) -> None:
    entry = join.pending.get("p0")
    assert entry is not None
    entry.label = 1.0
    joined = add(join, label(0, START_MS + 5, 0.0))
    assert joined is not None
    assert joined.corrects == (1, 1.0, None)


@pytest.mark.parametrize(("later_ms", "counts"), [(HORIZON_MS, 0), (HORIZON_MS + 1, 1)])
def test_an_id_that_is_asked_again_within_the_horizon_counts_once(
    join: LabelJoin, totals: JoinTotals, later_ms: int, counts: int
) -> None:
    again = scenario.prediction(0, START_MS + later_ms, version=7)
    entry = join.add_prediction(again, START_MS + later_ms)
    assert (entry is not None) == bool(counts)
    assert (totals.asked_again, totals.expired, totals.unlabelled) == (1 - counts, counts, counts)
    joined = add(join, label(0, START_MS + HORIZON_MS))
    assert joined is not None
    assert joined.entry.version == (7 if counts else 1)


def test_eviction_removes_what_is_past_the_horizon_and_counts_it(join: LabelJoin, totals: JoinTotals) -> None:
    add(join, label(0, START_MS + 1))
    join.evict(START_MS + HORIZON_MS)
    assert len(join.pending) == 3
    join.evict(START_MS + HORIZON_MS + HOUR_MS + 1)
    assert [entry.prediction_id for entry in join.pending.settle()[0]] == ["p2"]
    assert (totals.expired, totals.unlabelled) == (2, 1)


def test_a_join_continues_from_its_entries(join: LabelJoin, totals: JoinTotals) -> None:
    stored = msgspec.msgpack.encode(join.pending.settle()[0])
    entries = msgspec.msgpack.decode(stored, type=list[PendingPrediction])
    restored = LabelJoin(HORIZON_MS, totals, PendingPredictions(entries))
    assert add(restored, label(2, START_MS + 3 * HOUR_MS)) is not None


def test_a_class_is_joined_as_its_index(totals: JoinTotals) -> None:
    join = LabelJoin(HORIZON_MS, totals, classes=["a", "b", "c"])
    for number, predicted in enumerate(["c", "other", None]):
        join.add_prediction(scenario.prediction(number, START_MS, prediction=predicted), START_MS)
    assert [entry.predicted for entry in join.pending.settle()[0]] == [2.0, None, None]


def test_features_are_kept_only_on_request(totals: JoinTotals) -> None:
    for keep, expected in ((False, []), (True, [0.0, "red"])):
        join = LabelJoin(HORIZON_MS, totals, keep_features=keep)
        join.add_prediction(scenario.prediction(0, START_MS), START_MS)
        assert join.pending.settle()[0][0].features == expected


def test_a_prediction_without_a_score_or_with_other_classes_is_not_measured(totals: JoinTotals) -> None:
    join = LabelJoin(HORIZON_MS, totals, classes=["a", "b", "c"])
    known: dict[str, Any] = {"probabilities": [0.1, 0.7, 0.2]}
    cases: list[dict[str, Any]] = [
        {"score": None},
        {"prediction": "other", **known},
        {"prediction": "b"},
        {"prediction": "b", **known},
    ]
    for number, values in enumerate(cases):
        join.add_prediction(scenario.prediction(number, START_MS, **values), START_MS)
    found = [numeric_prediction(entry, measures("multiclass")) for entry in join.pending.settle()[0]]
    assert found == [None, None, None, NumericPrediction(0.4, 1.0, [0.1, 0.7, 0.2])]


def test_a_prediction_without_a_predicted_value_follows_from_its_score(totals: JoinTotals) -> None:
    join = LabelJoin(HORIZON_MS, totals)
    join.add_prediction(scenario.prediction(0, START_MS, prediction=None, score=0.7), START_MS)
    assert numeric_prediction(join.pending.settle()[0][0], measures()) == NumericPrediction(0.7, 1.0, [])


def test_an_outcome_has_the_loss_the_true_class_and_the_cost(join: LabelJoin) -> None:
    costs = {true: {other: float(true != other) for other in "abc"} for true in "abc"}
    several = measures("multiclass", costs=costs)
    known = label(0, START_MS + 1, 2.0)
    joined = add(join, known)
    assert joined is not None
    outcome = outcome_of("m", joined.entry, known, several, [0.5, 0.0, 1.0])
    assert (outcome.loss, outcome.class_name, outcome.cost) == (0.5, "c", 1.0)
    assert (outcome.event_time_ms, outcome.label_time_ms, outcome.label) == (START_MS, START_MS + 1, 2.0)


def test_an_outcome_without_measures_has_neither_loss_nor_cost(join: LabelJoin) -> None:
    known = label(0, START_MS + 1)
    joined = add(join, known)
    assert joined is not None
    outcome = outcome_of("m", joined.entry, known, measures(), None)
    assert (outcome.loss, outcome.class_name, outcome.cost) == (None, "", None)


def test_a_label_that_comes_first_is_joined_with_its_prediction(totals: JoinTotals) -> None:
    join = LabelJoin(HORIZON_MS, totals)
    known = label(5, START_MS + 1)
    assert join.add_label(known, START_MS + 1) is None
    joined = added(join, START_MS + WAIT_MS)
    assert joined is not None
    assert (joined.label, joined.entry.prediction_id) == (known, "p5")
    assert (totals.joined, totals.orphaned, len(join.waiting)) == (1, 0, 0)
    assert add(join, label(5, START_MS + 2, 0.0)) is not None


def test_a_label_waits_for_a_bounded_time(totals: JoinTotals) -> None:
    join = LabelJoin(HORIZON_MS, totals)
    for number in (5, 6):
        join.add_label(label(number, START_MS), START_MS)
    assert added(join, START_MS + WAIT_MS + 1) is None
    join.evict(START_MS + WAIT_MS)
    assert totals.orphaned == 1
    join.evict(START_MS + WAIT_MS + 1)
    assert (totals.orphaned, len(join.waiting)) == (2, 0)


def test_of_several_labels_that_wait_the_one_that_counts_is_joined_as_the_first(totals: JoinTotals) -> None:
    join = LabelJoin(HORIZON_MS, totals)
    times_values = ((1, 1.0), (3, 0.0), (2, 1.0), (HORIZON_MS + 1, 1.0))
    for time_ms, value in times_values:
        join.add_label(label(5, START_MS + time_ms, value), START_MS + 3)
    joined = added(join, START_MS + 4)
    assert joined is not None
    assert (joined.label, joined.corrects) == (label(5, START_MS + 3, 0.0), None)
    assert (totals.joined, totals.corrected, totals.superseded, totals.orphaned) == (1, 1, 1, 1)
    later = add(join, label(5, START_MS + 9, 1.0))
    assert later is not None
    assert later.corrects == (1, 0.0, START_MS + 3)


@pytest.mark.parametrize(("before_ms", "joined"), [(0, 1), (1, 1), (SKEW_MS_MAX, 1), (SKEW_MS_MAX + 1, 0)])
def test_a_label_dated_before_its_request_has_no_delay_or_is_refused(
    totals: JoinTotals, before_ms: int, joined: int
) -> None:
    join = LabelJoin(HORIZON_MS, totals)
    join.add_label(label(5, START_MS - before_ms), START_MS - before_ms)
    found = added(join, START_MS)
    assert (found is not None) == bool(joined)
    assert found is None or found.label.event_time_ms == START_MS
    assert (totals.joined, totals.misdated, totals.orphaned) == (joined, 1 - joined, 0)


def test_a_restart_keeps_the_labels_that_wait(totals: JoinTotals) -> None:
    join = LabelJoin(HORIZON_MS, totals)
    add(join, label(5, START_MS))
    restored = LabelJoin(HORIZON_MS, totals, waiting=join.waiting.entries())
    assert added(restored, START_MS) is not None


def test_an_outcome_at_its_prediction_is_no_repeat_of_the_others(join: LabelJoin) -> None:
    """Consumers drop repeats by source partition and offset; labels that waited come out of their order."""
    known = label(0, START_MS + 1)
    joined = add(join, known)
    assert joined is not None
    outcome = outcome_of("m", joined.entry, known, measures(), None)
    repeats = RepeatFilter({outcome.source_partition: outcome.source_offset + 9})
    for place in ((0, 0), (1, 0), (0, 3), (2**15 - 1, 0)):
        moved = at_prediction(outcome, *place)
        assert records.decoder_of(records.Outcome).decode(records.encode(moved)) == moved
        assert not repeats.is_repeat(moved.source_partition, moved.source_offset)
        assert repeats.is_repeat(moved.source_partition, moved.source_offset)
    other = at_prediction(msgspec.structs.replace(outcome, source_partition=1), 0, 0)
    assert not repeats.is_repeat(other.source_partition, other.source_offset)
