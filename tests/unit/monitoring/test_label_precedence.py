"""Which of several labels counts, and that the join and the answers to feedback have the same rule."""

from hypothesis import given
from hypothesis import strategies as st

from services.monitoring.label_join import JoinTotals, LabelJoin
from services.monitoring.label_precedence import KnownLabel, counting, effect_of
from streams import records
from tests.unit.drift import scenario

HORIZON_MS = 1_000


def test_a_label_without_another_is_the_first():
    assert effect_of(1.0, 5, None) == "first"
    assert counting(1.0, 5, None) == KnownLabel(1.0, 5)


def test_the_same_value_repeats_and_moves_the_time_forward_only():
    known = KnownLabel(1.0, 5)
    assert [effect_of(1.0, time_ms, known) for time_ms in (3, 7)] == ["repeats", "repeats"]
    assert [counting(1.0, time_ms, known).latest_ms for time_ms in (3, 7)] == [5, 7]


def test_another_value_corrects_unless_it_is_dated_before():
    known = KnownLabel(1.0, 5)
    assert [effect_of(0.0, time_ms, known) for time_ms in (4, 5, 6)] == ["superseded", "corrects", "corrects"]
    assert counting(0.0, 4, known) == known
    assert counting(0.0, 5, known) == KnownLabel(0.0, 5)


def test_a_label_of_unknown_time_is_corrected_at_any_time():
    assert effect_of(0.0, 0, KnownLabel(1.0, None)) == "corrects"
    assert counting(1.0, 0, KnownLabel(1.0, None)) == KnownLabel(1.0, None)


@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.integers(0, HORIZON_MS)), min_size=1, max_size=8))
def test_the_join_counts_as_the_rule_says(labels):
    totals = JoinTotals()
    join = LabelJoin(HORIZON_MS, totals)
    entry = join.add_prediction(scenario.prediction(0, 0), 0)
    assert entry is not None
    known, effects = None, []
    for offset, (value, time_ms) in enumerate(labels):
        effects.append(effect_of(value, time_ms, known))
        known = counting(value, time_ms, known)
        join.add_label(
            records.Label(
                prediction_id=entry.prediction_id,
                event_time_ms=time_ms,
                value=value,
                source_partition=0,
                source_offset=offset,
            ),
            time_ms,
        )
    assert (totals.joined, totals.duplicate, totals.superseded, totals.corrected) == tuple(
        effects.count(effect) for effect in ("first", "repeats", "superseded", "corrects")
    )
    assert known is not None
    assert entry.label == known.value
