"""Sums over the predictions of a cohort: exact, whatever the order and the batches."""

from hypothesis import given, settings
from hypothesis import strategies as st

from services.drift.performance.cohorts import RAW, SLOTS, LabelledRow, LabelRole, PredictionCohort
from services.monitoring.model_metrics import MeasureRange

HOUR_MS = 3_600_000
RANGES = [MeasureRange(0, 4), MeasureRange(0, 1)]
quick = settings(max_examples=60)

ROWS = st.lists(
    st.tuples(st.sampled_from(["", "a", "b"]), st.integers(0, 3), st.floats(-2, 9), st.booleans()),
    max_size=40,
)


@quick
@given(ROWS, st.integers(0, 40))
def test_sums_of_parts_are_the_sums_of_the_whole(rows, cut):
    def cohort(*parts):
        made = PredictionCohort(0, HOUR_MS, 1, cells=4, measures=2, ranges=RANGES)
        for part in parts:
            labelled = [
                LabelledRow([segment] if segment else [], cell, 0, cell, float(right), [value, float(right)])
                for segment, cell, value, right in part
            ]
            if labelled:
                made.add_labels(labelled)
        return made.state()

    whole, parts = cohort(rows), cohort(rows[cut:][::-1], rows[:cut])
    assert parts.cells == whole.cells
    assert parts.delays == whole.delays
    assert parts.segments == whole.segments


@quick
@given(ROWS, ROWS)
def test_a_corrected_cohort_is_the_same_as_if_the_last_values_alone_had_come(rows, changed):
    """All but the delay of a first label, which stays."""

    def row(given, role, delay):
        segment, cell, value, right = given
        values = [value, float(right)]
        return LabelledRow([segment], cell, int(right), delay, float(right), values, role=role)

    corrected, expected = (
        PredictionCohort(0, HOUR_MS, 1, cells=4, measures=2, ranges=RANGES, groups=2) for _ in range(2)
    )
    for before, values in zip(rows, changed, strict=False):
        after = *before[:2], *values[2:]
        corrected.add_labels([row(before, LabelRole.FIRST, 1)])
        corrected.add_labels([row(before, LabelRole.REPLACED, 1), row(after, LabelRole.CORRECTION, 2)])
        expected.add_labels([row(after, LabelRole.FIRST, 2)])
    found, wanted = corrected.state(), expected.state()
    count = min(len(rows), len(changed))
    assert (found.corrections, found.delays[1], wanted.delays[2]) == (count, count, count)
    assert (found.segments, found.cells) == (wanted.segments, wanted.cells)
    assert (found.group_sums, found.group_delays) == (wanted.group_sums, wanted.group_delays)


def new_cohort(state=None):
    return PredictionCohort(0, HOUR_MS, 1, cells=2, measures=2, ranges=RANGES, state=state)


def labelled(value, segments=()):
    return LabelledRow(list(segments), 1, 0, 0, 1.0, [value, 0.5])


def test_new_moments_and_cells_are_taken_once():
    cohort = new_cohort()
    cohort.add_labels([labelled(1.0), labelled(2.0)])
    labels, moments = cohort.all.take_new()
    assert (labels, moments[0, RAW]) == (2, 3.0)
    assert cohort.take_new_cells().sum(axis=0).tolist() == [2, 2, 3.0, 1.0]
    cohort.add_labels([labelled(0.5)])
    labels, moments = cohort.all.take_new()
    assert (labels, moments[0, RAW]) == (1, 0.5)
    assert cohort.take_new_cells().sum() == 3.0


def test_a_restored_cohort_goes_on_where_it_was():
    cohort = new_cohort()
    cohort.add_predictions([(5, 0.2, ["a"]), (HOUR_MS - 1, 0.9, [])], [0.5])
    cohort.add_labels([labelled(1.0, ["a"])])
    cohort.all.take_new()
    restored = new_cohort(cohort.state())
    assert restored.state() == cohort.state()
    assert restored.all.take_new()[0] == 0


def test_predictions_are_counted_by_segment_slot_and_cell():
    cohort = new_cohort()
    cohort.add_predictions([(5, 0.2, ["a"]), (HOUR_MS - 1, 0.9, [])], [0.5])
    assert cohort.all.scores.tolist() == [1, 1]
    assert cohort.segment("a").scores.tolist() == [1, 0]
    assert (cohort.slots[0], cohort.slots[SLOTS - 1]) == (1, 1)


def test_the_age_of_a_slot_is_that_of_its_youngest_prediction():
    ages_ms = new_cohort().ages_ms(2 * HOUR_MS)
    assert (ages_ms[0], ages_ms[-1]) == (2 * HOUR_MS - HOUR_MS // SLOTS, HOUR_MS)


def test_a_cohort_of_an_earlier_champion_counts_no_scores():
    cohort = new_cohort()
    cohort.forget_cells()
    cohort.add_labels([labelled(1.0)])
    assert not cohort.has_cells
    assert cohort.cells.shape == (0, 4)
    assert cohort.all.labels == 1
