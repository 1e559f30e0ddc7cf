"""Laws of the drift engine: order, interleaving, slicing and restarts change nothing."""

import msgspec
import numpy as np
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from services.drift.binning import statistics
from services.drift.binning.bin_counts import BinCounts
from services.drift.drift_state import starting_state
from services.drift.engine import Engine
from services.drift.monitored_model import SNAPSHOTS
from streams import records
from streams.repeats import RepeatFilter
from tests.unit.drift import scenario
from tests.unit.drift.scenario import HOUR_MS, START_MS, Traffic

MINUTE_MS = 60_000
COLOURS = ("red", "green", "odd")
PARTITIONS = 2
seeds = st.randoms(use_true_random=False)
quick = settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def logs(draw):
    """Draw traffic of two champions and a challenger: out of order, late, repeated, duplicated, orphaned.

    Some rows after the promotion have the old version, as those of a worker that changes later.
    """
    ids = st.integers(0, 25)
    minutes = st.integers(0, 500)
    predictions = []
    for home in range(PARTITIONS):
        log, source = [], 0
        for number, minute, kind in draw(st.lists(st.tuples(ids, minutes, st.integers(0, 9)), max_size=25)):
            if kind == 0:
                log.append(START_MS + minute * MINUTE_MS // 2)
                continue
            source = max(0, source - 2) if kind == 1 else source + 1
            log.append(
                scenario.prediction(
                    number,
                    START_MS + minute * MINUTE_MS,
                    version=3 if kind == 2 else 1 if minute < PROMOTED_MINUTE or kind == 3 else 2,
                    arm="new" if kind == 2 else "champion",
                    features=[number / 10, "red" if number % 3 else "odd"],
                    score=(number + 1) / 30,
                    source_partition=home,
                    source_offset=source,
                )
            )
        predictions.append(log)
    labels = []
    for home in range(PARTITIONS):
        log = []
        for number, minute, kind in draw(st.lists(st.tuples(ids, minutes, st.integers(0, 9)), max_size=25)):
            moment = START_MS + minute * MINUTE_MS
            log.append(
                moment
                if kind == 0
                else scenario.label(number, moment, float(kind > 4), partition=home, offset=len(log))
            )
        labels.append(log)
    end_ms = START_MS + 24 * HOUR_MS
    return Traffic(*[[scenario.numbered([*log, end_ms]) for log in side] for side in (predictions, labels)])


DECLARED = scenario.declaration(loss_windows=1, minimum_labels=1, cooldown_hours=2, segments=["colour"])
PROMOTED_MINUTE = 250
PROMOTION = scenario.model_changed(version=2, log_loss=0.3, from_ms=START_MS + PROMOTED_MINUTE * MINUTE_MS)
CHALLENGER = msgspec.structs.replace(scenario.model_changed(version=3, log_loss=0.4), arms=[])


def new_engine(state=None):
    engine = scenario.new_engine(DECLARED, PARTITIONS, state)
    for change in (CHALLENGER, PROMOTION):
        engine.add_model(change)
    return engine


class LateReader(Engine):
    """Reads the promotion only when it asks for the models topic; until then it is not there, or not read."""

    def __init__(self, state=None):
        super().__init__(DECLARED, starting_state(DECLARED, PARTITIONS, PARTITIONS, state))
        for change in (scenario.model_changed(), CHALLENGER) if state is None else ():
            self.add_model(change)

    def advance(self):
        if self.needs_control_topics:
            if not (self.references.are_complete and self.champions.are_known):
                self.add_model(PROMOTION)
            self.champions.settle()
        return super().advance()


def kept(state):
    return SNAPSHOTS.decode(SNAPSHOTS.encode("m", "l", state), "m", "l")


@quick
@given(logs(), seeds)
def test_interleaving_and_slicing_change_no_output(traffic, chance):
    first, second = new_engine(), new_engine()
    assert scenario.play(first, traffic) == scenario.play(second, traffic, chance)
    assert first.totals == second.totals


@quick
@given(logs(), seeds)
def test_when_changes_of_the_models_are_read_changes_no_output(traffic, chance):
    expected, late = scenario.play(new_engine(), traffic), LateReader()
    player, parts = scenario.Player(traffic), []
    while places := player.open:
        parts.append(player.step(late, chance.choice(places), chance.randrange(1, 8)))
        if chance.random() < 0.1:
            late = LateReader(kept(late.state()))
            player.seek(late)
    assert scenario.merge(parts) == expected


@quick
@given(logs(), seeds)
def test_a_restart_from_the_last_snapshot_changes_no_output(traffic, chance):
    undisturbed, engine = new_engine(), new_engine()
    expected = scenario.play(undisturbed, traffic)
    player, parts = scenario.Player(traffic), []
    while places := player.open:
        parts.append(player.step(engine, chance.choice(places), chance.randrange(1, 8)))
        if chance.random() < 0.2:
            engine = new_engine(kept(engine.state()))
            player.seek(engine)
    found = scenario.merge(parts)
    assert found == expected
    assert engine.totals == undisturbed.totals


@quick
@given(logs(), seeds)
def test_a_crash_repeats_the_outputs_after_the_snapshot_and_no_others(traffic, chance):
    """Readers that drop repeats by id and source offset see the outputs of an undisturbed run."""
    expected = scenario.play(new_engine(), traffic)
    engine = new_engine()
    snapshot, parts, player = kept(engine.state()), [], scenario.Player(traffic)
    while places := player.open:
        parts.append(player.step(engine, chance.choice(places), chance.randrange(1, 8)))
        fate = chance.random()
        if fate < 0.2:
            snapshot = kept(engine.state())
        elif fate < 0.3:
            engine = new_engine(snapshot)
            snapshot = kept(engine.state())
            player.seek(engine)
    found = scenario.merge(parts)
    for partition, outcomes in found.outcomes.items():
        repeats = RepeatFilter()
        places = [(each.source_partition, each.source_offset) for each in outcomes]
        fresh = [each for each, place in zip(outcomes, places, strict=True) if not repeats.is_repeat(*place)]
        assert sorted(fresh, key=_place) == sorted(expected.outcomes[partition], key=_place)
    assert _by_id(found.drift) == _by_id(expected.drift)
    assert {request.request_id: request for request in found.requests} == {
        request.request_id: request for request in expected.requests
    }


def _place(outcome):
    """Return the position by which repeats are dropped."""
    return outcome.source_partition, outcome.source_offset


@st.composite
def delays(draw):
    """Draw traffic in order, and the delay of each record in minutes."""
    count = draw(st.integers(1, 30))
    minutes = sorted(draw(st.lists(st.integers(0, 400), min_size=count, max_size=count)))
    truths = draw(st.lists(st.tuples(st.integers(0, 150), st.booleans()), min_size=count, max_size=count))
    predictions = [
        scenario.prediction(
            number, START_MS + minute * MINUTE_MS, features=[number / 10, COLOURS[number % 3]],
            score=(number + 1) / 32, shadow_scores={"frozen": (number + 2) / 33},
        )
        for number, minute in enumerate(minutes)
    ]  # fmt: skip
    labels = [
        scenario.label(number, START_MS + (minutes[number] + delay) * MINUTE_MS, float(truth))
        for number, (delay, truth) in enumerate(truths)
    ]
    labels.sort(key=lambda each: each.event_time_ms)
    late = draw(st.lists(st.integers(0, 120), min_size=2 * count, max_size=2 * count))
    return predictions, labels, late


def _label_before_all_predictions():
    """Return traffic whose first record is a label; its prediction comes after the window of the label."""
    minutes = 39, 120
    predictions = [
        scenario.prediction(number, START_MS + minute * MINUTE_MS, features=[number / 10, COLOURS[number]])
        for number, minute in enumerate(minutes)
    ]
    labels = [
        scenario.label(number, START_MS + minute * MINUTE_MS, 0.0) for number, minute in enumerate((60, 120))
    ]
    return predictions, labels, [82, 0, 0, 0]


def _one_partition(predictions, labels):
    """Return the logs as one partition of each; labels have rising offsets, predictions come from HTTP."""
    from_http = dict.fromkeys(("source_partition", "source_offset"), records.ASKED_OVER_HTTP)
    predicted = [msgspec.structs.replace(each, **from_http) for each in predictions]
    end_ms = START_MS + 24 * HOUR_MS
    return Traffic(
        [scenario.numbered([*predicted, end_ms]), scenario.numbered([end_ms])],
        [scenario.with_label_offsets([*labels, end_ms]), scenario.numbered([end_ms])],
    )


def _delayed(log, late):
    """Return the log with each record delayed by its minutes of event time."""
    arrivals = [each.event_time_ms + minutes * MINUTE_MS for each, minutes in zip(log, late, strict=False)]
    return [log[number] for number in sorted(range(len(log)), key=lambda number: (arrivals[number], number))]


@quick
@given(delays())
@example(_label_before_all_predictions())
def test_late_records_lead_to_the_same_reports_as_records_in_time(drawn):
    """The label horizon is longer than any record is late; totals depend on the moment of the report."""
    predictions, labels, late = drawn
    declared = scenario.declaration(segments=["colour"], lateness_hours=24)
    declared = declared.model_copy(
        update={"label": declared.label.model_copy(update={"horizon_hours": 30.0})}
    )
    in_time, delayed = scenario.new_engine(declared, PARTITIONS), scenario.new_engine(declared, PARTITIONS)
    expected = scenario.play(in_time, _one_partition(predictions, labels))
    found = scenario.play(
        delayed, _one_partition(_delayed(predictions, late), _delayed(labels, late[len(predictions) :]))
    )
    assert delayed.totals.late_predictions == delayed.totals.late_labels == 0
    if delayed.totals.orphaned == 0:  # no label came longer before its prediction than it waits
        assert _contents(found) == _contents(expected)
    else:
        assert sum(report.predictions for report in scenario.latest(found)) == len(predictions)


def _contents(outputs):
    """Return the reports of windows with records, without their totals."""
    totals = dict.fromkeys(
        (
            "labels_joined_total", "labels_orphaned_total", "labels_duplicate_total",
            "labels_corrected_total", "predictions_asked_again_total", "predictions_unlabelled_total",
            "revision",
        ), 0,
    )  # fmt: skip
    return {
        report.report_id: msgspec.structs.replace(report, **totals, alarms_standing=None)
        for report in scenario.latest(outputs)
        if report.predictions or report.labels
    }


@quick
@given(logs(), seeds)
def test_every_label_and_prediction_is_accounted_for(traffic, chance):
    engine = new_engine()
    outputs = scenario.play(engine, traffic, chance)
    totals = engine.totals
    labels = [entry for log in traffic.labels for entry in log if not isinstance(entry.record, int)]
    predictions = [entry for log in traffic.predictions for entry in log if not isinstance(entry.record, int)]
    further = totals.corrected + totals.duplicate + totals.superseded
    assert totals.joined + further + totals.orphaned + totals.misdated == len(labels)
    assert totals.predictions + totals.repeated == len(predictions)
    assert len(engine.pending_predictions) == 0
    assert totals.expired == totals.predictions - totals.asked_again
    assert totals.expired - totals.unlabelled == totals.joined
    numbers = [each.correction for found in outputs.outcomes.values() for each in found]
    assert numbers.count(0) == totals.joined
    assert len(numbers) <= totals.joined + totals.corrected
    counted = sum(report.predictions for report in scenario.latest(outputs))
    assert counted + totals.late_predictions == totals.predictions


@given(st.lists(st.one_of(st.none(), st.integers(-5, 5), st.floats(-5, 5)), max_size=60), st.integers(1, 20))
def test_counts_do_not_depend_on_chunks_or_order(column, size):
    reference = records.FeatureReference(feature="x", counts=[1] * 5, missing=0, edges=[-2.0, 0.0, 1.0, 3.0])
    whole, pieces = BinCounts(reference), BinCounts(reference)
    if column:
        whole.add(column)
    shuffled = sorted(column, key=str)
    for start in range(0, len(shuffled), size):
        pieces.add(shuffled[start : start + size])
    assert whole.counts.tolist() == pieces.counts.tolist()
    assert whole.counts.sum() == len(column)


two_samples = st.integers(1, 12).flatmap(
    lambda cells: st.tuples(*[st.lists(st.integers(0, 1000), min_size=cells, max_size=cells)] * 2)
)


@given(two_samples)
def test_statistics_stay_in_their_ranges(pair):
    reference, window = (np.array(sample, dtype=np.int64) for sample in pair)
    distance, p_value = statistics.kolmogorov_smirnov(reference, window)
    assert 0 <= distance <= 1 + 1e-12
    assert 0 <= p_value <= 1
    assert 0 <= statistics.total_variation(reference, window) <= 1 + 1e-12
    assert 0 <= statistics.homogeneity_p_value(reference, window) <= 1
    assert statistics.population_stability_index(reference, window) >= -1e-12
    assert statistics.population_stability_index(reference, reference) == 0
    assert statistics.expected_index(reference, window) >= 0


def _by_id(drift):
    return {scenario.identity(record): record for record in drift}
