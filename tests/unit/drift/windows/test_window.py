"""What a window counts, whatever the order, the slices and the lateness of its records."""

import random

import msgspec
import pytest

from services.drift.binning.binning import PredictionRows, RowBinner
from services.drift.performance.exact_sums import ExactMean
from services.drift.windows import window as window_module
from services.drift.windows.window import DriftWindow, DriftWindowState, SegmentState
from streams import records
from tests.unit.drift import scenario
from tests.unit.drift.scenario import HOUR_MS, START_MS


def row_binner() -> RowBinner:
    return RowBinner(scenario.reference(), scenario.declaration(segments=["colour"]))


def empty() -> DriftWindow:
    window = DriftWindow(DriftWindowState(START_MS, START_MS + HOUR_MS))
    window.choose_version(1, row_binner())
    return window


def predictions(count: int) -> list[records.Prediction]:
    chance = random.Random(3)
    return [
        scenario.prediction(
            number,
            START_MS + number,
            version=1 + number % 2,
            features=[chance.gauss(0, 1), chance.choice([*scenario.COLOURS, "pink", None])],
            score=chance.uniform(0.1, 0.9),
        )
        for number in range(count)
    ]


def counted(window: DriftWindow, rows: list[records.Prediction], start: int, stop: int) -> None:
    together = PredictionRows(rows)
    assert window.row_binner is not None
    window.count(together, window.row_binner.assign(together), start, stop)


def test_parts_and_late_records_count_like_the_whole() -> None:
    rows = predictions(60)
    whole, parts, late = empty(), empty(), empty()
    counted(whole, rows, 0, 60)
    for start, stop in ((0, 7), (7, 7), (7, 60)):
        counted(parts, rows, start, stop)
    for row in random.Random(1).sample(rows, 60):
        late.count_late(row)
    expected = msgspec.msgpack.encode(whole.snapshot())
    assert msgspec.msgpack.encode(parts.snapshot()) == expected
    late_state = late.snapshot()
    for each in (*late_state.bin_counts,):
        each.unseen = dict(sorted(each.unseen.items()))
    late_state.segments = {name: late_state.segments[name] for name in whole.state.segments}
    assert msgspec.msgpack.encode(late_state) == expected


def test_a_window_continues_from_its_snapshot() -> None:
    rows = predictions(40)
    whole, first = empty(), empty()
    counted(whole, rows, 0, 40)
    counted(first, rows, 0, 15)
    state = msgspec.msgpack.decode(msgspec.msgpack.encode(first.snapshot()), type=DriftWindowState)
    restored = DriftWindow(state, row_binner())
    counted(restored, rows, 15, 40)
    assert msgspec.msgpack.encode(restored.snapshot()) == msgspec.msgpack.encode(whole.snapshot())


def test_snapshots_keep_their_field_names() -> None:
    """A restart reads what the version before wrote."""
    stored = msgspec.to_builtins(empty().snapshot())
    assert {"cells", "score_cells", "faults", "alarms_standing"} <= stored.keys()


def test_only_scores_of_the_windows_version_are_counted() -> None:
    window = empty()
    counted(window, predictions(40), 0, 40)
    assert window.outputs.score is not None
    assert window.outputs.score.counts.sum() == 20
    assert window.features[0].counts.sum() == 40


def test_rows_with_other_features_are_predictions_and_nothing_else() -> None:
    window = empty()
    rows = [*predictions(2), scenario.prediction(2, START_MS, features=[1.0])]
    counted(window, rows, 0, 3)
    assert window.state.predictions == 3
    assert window.features[0].counts.sum() == 2


def test_the_first_version_stays() -> None:
    window = empty()
    window.choose_version(2, None)
    assert window.state.version == 1
    assert window.row_binner is not None


def test_late_predictions_are_counted_when_the_buffer_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_module, "LATE_BUFFERED_MAX", 2)
    window = empty()
    first, second = predictions(2)
    window.count_late(first)
    assert window.state.predictions == 0
    window.count_late(second)
    assert window.state.predictions == 2


def test_a_window_without_a_reference_counts_predictions_only() -> None:
    window = DriftWindow(DriftWindowState(START_MS, START_MS + HOUR_MS))
    window.count(PredictionRows(predictions(3)), None, 0, 3)
    assert window.state.predictions == 3
    assert window.contributions("x") == []


def test_contributions_of_a_segment_come_from_its_rows() -> None:
    window = empty()
    rows = [scenario.prediction(n, START_MS, features=[2.0, "red"]) for n in range(30)]
    counted(window, rows, 0, 30)
    inside = window.contributions("x", "colour=red")
    assert inside
    assert {each.segment for each in inside} == {"colour=red"}
    assert {each.segment for each in window.contributions("x")} == {""}
    assert window.contributions("no such feature") == []
    ((share, _),) = window.segment_features()
    assert share == 1


def test_the_sums_of_an_older_state_become_those_of_the_champion() -> None:
    state = DriftWindowState(
        START_MS, START_MS + HOUR_MS, version=2, champion=3, predictions=9, labels=2, answers=2,
        answers_right=1, losses=ExactMean.of([0.5, 1.0]), measures=[ExactMean.of([0.5, 1.0])],
        shadows={"frozen": ExactMean.of([0.25])},
        segments={"colour=red": SegmentState(4, [], 1, ExactMean.of([0.5]))},
    )  # fmt: skip
    window_module.adopt_older_sums(state)
    champion, shadow = state.arms
    assert (champion.version, champion.labels, champion.answers_right) == (2, 2, 1)
    assert (champion.measures[0].total.value, champion.measures[0].squares.count) == (0.75, 0)
    assert champion.segment_labels == {"colour=red": 1}
    assert (shadow.arm, shadow.shadow, shadow.measures[0].total.value) == ("frozen", True, 0.25)
    again = msgspec.msgpack.encode(state)
    window_module.adopt_older_sums(state)
    assert msgspec.msgpack.encode(state) == again
