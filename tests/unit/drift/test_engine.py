"""The engine: joining predictions with labels, windows of event time, and restarts."""

import itertools
import math
import random

import msgspec
import pytest

from services.drift.monitored_model import SNAPSHOTS
from services.monitoring.label_definition import label_definition
from streams import records
from streams.inputs import LABEL, PREDICTION, PartitionKey
from tests.unit.drift import scenario
from tests.unit.drift.scenario import HOUR_MS, MINUTE_MS, START_MS, EngineFeeder


def outcomes(outputs):
    return [outcome for partition in outputs.outcomes.values() for outcome in partition]


def test_label_is_joined_with_its_prediction():
    feeder = EngineFeeder()
    feeder.predict(1, 0, score=0.25, shadow_scores={"frozen": 0.5})
    feeder.label(1, 30, 1.0)
    (outcome,) = outcomes(feeder.until(40))
    assert outcome == records.Outcome(
        prediction_id="p1",
        model="m",
        version=1,
        arm="champion",
        event_time_ms=START_MS,
        label_time_ms=START_MS + 30 * MINUTE_MS,
        source_partition=0,
        source_offset=0,
        label=1.0,
        score=0.25,
        loss=-math.log(0.25),
        shadow_scores={"frozen": 0.5},
        definition=label_definition(scenario.declaration()),
    )


def test_label_of_the_same_instant_is_joined_with_its_prediction():
    feeder = EngineFeeder()
    feeder.label(1, 5, 1.0)
    feeder.predict(1, 5)
    assert len(outcomes(feeder.until(10))) == 1


def test_nothing_is_processed_before_every_partition_has_sent_a_bound():
    feeder = EngineFeeder()
    feeder.predict(1, 0)
    feeder.label(1, 30, 1.0)
    feeder.engine.inputs.add_heartbeat(PartitionKey(LABEL, 0), 99, START_MS + HOUR_MS)
    assert outcomes(feeder.engine.advance()) == []
    assert feeder.engine.watermark_ms == START_MS - 1


def test_version_zero_is_joined_without_score_or_loss():
    feeder = EngineFeeder()
    feeder.predict(1, 0, version=0)
    feeder.label(1, 30, 1.0)
    (outcome,) = outcomes(feeder.until(40))
    assert (outcome.version, outcome.score, outcome.loss) == (0, None, None)


def test_a_certain_and_wrong_score_costs_a_finite_loss():
    feeder = EngineFeeder()
    feeder.predict(1, 0, score=0.0)
    feeder.predict(2, 1, score=1.0)
    feeder.label(1, 30, 1.0)
    feeder.label(2, 30, 1.0)
    first, second = outcomes(feeder.until(40))
    assert first.loss == pytest.approx(16.12, abs=0.01)
    assert second.loss == pytest.approx(0.0, abs=1e-6)


def test_label_beyond_the_horizon_is_an_orphan_and_its_prediction_unlabelled():
    feeder = EngineFeeder()
    feeder.predict(1, 0)
    feeder.label(1, 181, 1.0)
    assert outcomes(feeder.until(241)) == []
    totals = feeder.engine.totals
    assert (totals.joined, totals.orphaned, totals.unlabelled) == (0, 1, 1)


def test_label_at_the_end_of_the_horizon_still_counts():
    feeder = EngineFeeder()
    feeder.predict(1, 0)
    feeder.label(1, 180, 1.0)
    assert len(outcomes(feeder.until(300))) == 1
    assert feeder.engine.totals.unlabelled == 0


def test_label_without_prediction_is_an_orphan():
    feeder = EngineFeeder()
    feeder.label(7, 10, 1.0)
    feeder.until(60)
    assert feeder.engine.totals.orphaned == 0
    feeder.until(121)
    assert feeder.engine.totals.orphaned == 1


def test_requests_of_the_same_instant_are_no_repeats():
    feeder = EngineFeeder()
    for number in (8, 1, 5):
        feeder.predict(number, 0)
    feeder.until(10)
    assert (feeder.engine.totals.predictions, feeder.engine.totals.repeated) == (3, 0)


def test_label_that_comes_first_is_joined_and_its_outcome_is_at_the_prediction():
    """Another record of the partition is dated 40 minutes later, so the prediction counts then."""
    feeder = EngineFeeder()
    feeder.predict(8, 40)
    feeder.predict(1, 0)
    feeder.label(1, 20, 1.0)
    feeder.label(8, 41, 0.0)
    outputs = feeder.until(50)
    first, second = sorted(outcomes(outputs), key=lambda each: each.prediction_id)
    assert (first.prediction_id, first.label_time_ms) == ("p1", START_MS + 20 * MINUTE_MS)
    assert (first.source_partition, first.source_offset) == (-2, 1)
    assert (second.source_partition, second.source_offset) == (0, 1)
    assert feeder.engine.totals.joined == 2


def test_a_later_label_of_another_value_is_a_correction_with_an_outcome_of_its_own():
    feeder = EngineFeeder()
    feeder.predict(1, 0)
    feeder.label(1, 10, 1.0)
    feeder.label(1, 11, 1.0)
    feeder.label(1, 12, 0.0)
    feeder.label(1, 11, 1.0)
    first, correction = outcomes(feeder.until(20))
    assert (first.correction, first.corrected_label, first.label, first.source_offset) == (0, None, 1.0, 0)
    assert (correction.correction, correction.corrected_label, correction.label) == (1, 1.0, 0.0)
    assert (correction.source_offset, correction.label_time_ms) == (2, START_MS + 12 * MINUTE_MS)
    totals = feeder.engine.totals
    assert (totals.joined, totals.duplicate, totals.corrected, totals.superseded) == (1, 1, 1, 1)


def test_predictions_over_http_are_not_repeats_and_are_joined_with_their_labels():
    feeder = EngineFeeder()
    http = dict.fromkeys(("source_partition", "source_offset"), records.ASKED_OVER_HTTP)
    feeder.predict(1, 0, source_offset=0)
    feeder.predict(2, 1, **http)
    feeder.predict(3, 2, **http)
    feeder.predict(4, 3, source_offset=1)
    feeder.label(3, 30, 1.0)
    outputs = feeder.until(60)
    (report,) = scenario.reports(outputs)
    assert (report.predictions, feeder.engine.totals.repeated) == (4, 0)
    assert [outcome.prediction_id for outcome in outcomes(outputs)] == ["p3"]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("home", [0, 1, 2])
def test_answer_over_http_dated_months_ahead_orphans_no_label_of_any_partition(home, *, first):
    """A year is replayed on three partitions of requests and of labels; the answer is in one of them."""
    engine = scenario.new_engine(partitions=3)
    offsets = {(kind, number): itertools.count() for kind in (PREDICTION, LABEL) for number in range(3)}
    wall_ms, http = (
        START_MS + 10**12,
        dict.fromkeys(("source_partition", "source_offset"), records.ASKED_OVER_HTTP),
    )

    def predict(partition, number, time_ms, **values):
        offset = next(offsets[PREDICTION, partition])
        given = {"source_partition": partition, "source_offset": offset} | values
        made = scenario.prediction(number, time_ms, **given)
        engine.add_prediction(partition, offset, msgspec.structs.replace(made, scored_time_ms=wall_ms))

    hours = 48
    for minute in range(hours * 60):
        at_ms = START_MS + minute * MINUTE_MS
        if minute == (0 if first else 24 * 60):
            predict(home, 10**6, START_MS + 240 * 24 * HOUR_MS, **http)
        predict(minute % 3, minute, at_ms)
        if minute >= 100:
            made = scenario.label(minute - 100, at_ms, float(minute % 2))
            written = msgspec.structs.replace(made, written_time_ms=wall_ms)
            engine.add_label(minute % 3, next(offsets[LABEL, minute % 3]), written)
        if minute % 7 == 0:
            engine.advance()
    end_ms = START_MS + (hours + 6) * HOUR_MS
    for (kind, number), offset in offsets.items():
        engine.inputs.add_heartbeat(PartitionKey(kind, number), next(offset), end_ms)
    engine.advance()
    totals = engine.totals
    assert (totals.joined, totals.orphaned, totals.late_predictions) == (hours * 60 - 100, 0, 0)


def test_repeated_prediction_is_dropped():
    feeder = EngineFeeder()
    feeder.predict(1, 0, source_offset=0)
    feeder.predict(2, 1, source_offset=1)
    feeder.predict(1, 0, source_offset=0)
    feeder.predict(2, 1, source_offset=1)
    feeder.predict(3, 2, source_offset=2)
    (report,) = scenario.reports(feeder.until(60))
    assert report.predictions == 3
    assert feeder.engine.totals.repeated == 2


def test_memory_is_bounded_by_the_horizon():
    feeder = EngineFeeder()
    for number in range(2400):
        feeder.predict(number, number)  # one a minute for 40 hours
        feeder.until(number)
    assert len(feeder.engine.pending_predictions) <= 180 + 60


def test_windows_are_aligned_and_their_end_belongs_to_the_next_window():
    feeder = EngineFeeder()
    feeder.predict(1, 59)
    feeder.predict(2, 60)
    first, second = scenario.reports(feeder.until(120))
    assert (first.window_start_ms, first.window_end_ms) == (START_MS, START_MS + HOUR_MS)
    assert (first.predictions, second.predictions) == (1, 1)


def test_window_stays_open_until_no_record_of_it_can_come():
    feeder = EngineFeeder()
    feeder.predict(1, 0)
    assert scenario.reports(feeder.until(59.9)) == []
    assert len(scenario.reports(feeder.until(60))) == 1


def test_out_of_order_prediction_belongs_to_its_window_while_it_is_open():
    feeder = EngineFeeder()
    feeder.predict(1, 50)
    feeder.predict(2, 10)
    (report,) = scenario.reports(feeder.until(60))
    assert report.predictions == 2
    assert feeder.engine.totals.late_predictions == 0


def test_prediction_of_a_closed_window_is_joined_and_its_window_reported_again():
    feeder = EngineFeeder()
    feeder.predict(1, 10)
    (first,) = scenario.reports(feeder.until(70))
    feeder.predict(2, 20, features=[9.0, "mauve"])
    feeder.label(2, 75, 1.0)
    outputs = feeder.until(120)
    second, again = scenario.reports(outputs)
    assert (first.predictions, first.revision) == (1, 0)
    assert (second.predictions, second.labels) == (0, 1)
    assert (again.report_id, again.revision, again.predictions) == (first.report_id, 1, 2)
    assert again.features[1].new_categories == ["mauve"]
    assert again.alarms_standing == first.alarms_standing
    assert [outcome.prediction_id for outcome in outcomes(outputs)] == ["p2"]
    totals = feeder.engine.totals
    assert (totals.late_predictions, totals.revised_predictions) == (0, 1)


def test_label_of_a_closed_window_counts_there():
    feeder = EngineFeeder()
    feeder.predict(1, 10, score=0.25)
    feeder.until(70)
    feeder.label(1, 50, 1.0)
    second, again = scenario.reports(feeder.until(120))
    assert (second.labels, again.labels, again.revision) == (0, 1, 1)
    assert again.log_loss == -math.log(0.25)
    assert feeder.engine.totals.revised_labels == 1


def test_record_later_than_the_lateness_is_counted_as_late_and_is_in_no_report():
    feeder = EngineFeeder(lateness_hours=2)
    feeder.predict(1, 10)
    feeder.predict(2, 190)
    feeder.until(195)
    feeder.predict(3, 61)  # its window ended at 120, and the open one began at 180
    feeder.predict(4, 59)  # its window ended at 60
    reports = scenario.reports(feeder.until(240))
    assert [(report.window_start_ms - START_MS) // HOUR_MS for report in reports] == [3, 1]
    assert [report.predictions for report in reports] == [1, 1]
    totals = feeder.engine.totals
    assert (totals.late_predictions, totals.revised_predictions) == (1, 1)


def test_without_lateness_a_report_is_final():
    feeder = EngineFeeder(lateness_hours=0)
    feeder.predict(1, 10)
    feeder.until(70)
    feeder.predict(2, 20)
    (report,) = scenario.reports(feeder.until(120))
    assert report.predictions == 0
    assert feeder.engine.totals.late_predictions == 1


def test_report_counts_each_segment():
    feeder = EngineFeeder(segments=["colour"])
    for number, colour in enumerate(("red", "blue", "red", "odd")):
        feeder.predict(number, number, features=[0.0, colour], score=0.25 if colour == "red" else 0.75)
        feeder.label(number, number + 10, 1.0)
    (report,) = scenario.reports(feeder.until(60))
    found = {each.segment: (each.predictions, each.labels, each.loss) for each in report.segments}
    assert found == {
        "colour=red": (2, 2, -math.log(0.25)),
        "colour=blue": (1, 1, -math.log(0.75)),
        "colour=green": (0, 0, None),
    }
    (red,) = [each for each in report.segments if each.segment == "colour=red"]
    assert red.score_psi is not None
    assert red.score_psi > 1


def test_bin_that_changes_in_one_segment_only_is_ranked_first_in_that_segment():
    """x is missing in all blue rows, a fifth of all rows."""

    def first_report(**monitoring):
        feeder, chance = EngineFeeder(**monitoring), random.Random(4)
        for number in range(1000):
            colour = scenario.COLOURS[(0, 1, 0, 1, 0, 2, 0, 1, 0, 2)[number % 10]]
            x = None if colour == "blue" else chance.gauss(0.0, 1.0)
            feeder.predict(number, number / 20, features=[x, colour])
        return scenario.reports(feeder.until(60))[0]

    report = first_report(segments=["colour"])
    first, *others = report.contributions
    assert (first.feature, first.bin, first.segment) == ("x", "(missing)", "colour=blue")
    assert (first.share, first.expected_share) == (1.0, pytest.approx(20 / 2020, abs=1e-6))
    assert first.weight == pytest.approx(first.psi * 0.2 / 2)
    assert [each.weight for each in others] == sorted((each.weight for each in others), reverse=True)
    (of_all,) = [each for each in others if (each.bin, each.segment) == ("(missing)", "")]
    assert of_all.share == pytest.approx(0.2)
    plain = first_report().contributions
    assert plain[0].bin == "(missing)"
    assert {each.segment for each in plain} == {""}


def test_outcomes_of_a_partition_have_rising_offsets_although_labels_came_out_of_order():
    feeder = EngineFeeder()
    for number in range(5):
        feeder.predict(number, number)
    for number, minutes in ((0, 10), (3, 30), (1, 20), (2, 30), (4, 30)):
        feeder.label(number, minutes, 1.0)
    found = outcomes(feeder.until(40))
    assert [outcome.source_offset for outcome in found] == [0, 1, 2, 3, 4]


def test_report_contains_loss_accuracy_and_the_loss_of_the_shadow():
    feeder = EngineFeeder()
    feeder.predict(1, 0, score=0.8, prediction=1, shadow_scores={"frozen": 0.5})
    feeder.predict(2, 1, score=0.4, prediction=0, shadow_scores={"frozen": 0.5})
    feeder.label(1, 30, 1.0)
    feeder.label(2, 30, 1.0)
    (report,) = scenario.reports(feeder.until(60))
    assert report.log_loss == pytest.approx(-(math.log(0.8) + math.log(0.4)) / 2)
    assert report.accuracy == 0.5
    assert report.shadow_log_loss == {"frozen": pytest.approx(math.log(2))}
    assert report.reference_log_loss == 0.58
    assert report.labels == report.labels_joined_total == 2


def test_no_windows_follow_once_no_prediction_waits_for_a_label():
    feeder = EngineFeeder()
    feeder.predict(1, 0)
    outputs = feeder.until(60 * 24 * 365)
    assert [report.predictions for report in scenario.reports(outputs)] == [1, 0, 0, 0]
    assert scenario.reports(outputs)[-1].predictions_unlabelled_total == 1


def test_window_without_predictions_reports_no_features():
    feeder = EngineFeeder()
    feeder.predict(1, 10)
    feeder.label(1, 70, 1.0)
    first, second = scenario.reports(feeder.until(120))
    assert [feature.feature for feature in first.features] == ["x", "colour"]
    assert (second.labels, second.features, second.score_psi) == (1, [], None)


def test_rejected_record_becomes_a_dead_letter_and_opens_no_window():
    engine = scenario.new_engine()
    letter = records.DeadLetter(
        service="drift", reason="r", topic="t", partition=0, offset=0, key=None, value=b"x", failed_time_ms=0
    )
    engine.inputs.reject(PartitionKey(LABEL, 0), 0, letter)
    for kind in (PREDICTION, LABEL):
        engine.inputs.add_heartbeat(PartitionKey(kind, 0), 1, START_MS + 2 * HOUR_MS)
    outputs = engine.advance()
    assert outputs.dead_letters == [letter]
    assert outputs.drift == []
    assert engine.totals.rejected == 1


def test_version_is_unknown_until_its_reference_is_added():
    feeder = EngineFeeder()
    feeder.predict(1, 10, version=5)
    assert feeder.engine.references.unknown == {5}
    feeder.engine.add_model(scenario.model_changed(version=5))
    assert feeder.engine.references.unknown == frozenset()


def test_version_without_reference_is_reported_without_features():
    feeder = EngineFeeder()
    feeder.predict(1, 10, version=5)
    feeder.engine.references.give_up()
    (report,) = scenario.reports(feeder.until(60))
    assert (report.version, report.features, report.score_psi) == (5, [], None)


def test_restarts_from_snapshots_change_no_output():
    logs = scenario.traffic(30, seed=5, shift_at=12, a_hour=100)
    model = scenario.declaration()
    whole = scenario.play(scenario.new_engine(model, partitions=2), logs)
    assert whole.requests
    engine, parts, chance = scenario.new_engine(model, partitions=2), [], random.Random(1)
    player = scenario.Player(logs)
    while places := player.open:
        parts.append(player.step(engine, chance.choice(places), chance.randrange(1, 200)))
        if chance.random() < 0.1:
            kept = SNAPSHOTS.decode(SNAPSHOTS.encode("m", "l", engine.state()), "m", "l")
            engine = scenario.new_engine(model, partitions=2, state=kept)
            player.seek(engine)
    merged = scenario.merge(parts)
    assert merged.drift == whole.drift
    assert merged.requests == whole.requests
    assert merged.outcomes == whole.outcomes


@pytest.mark.parametrize("kind", [PREDICTION, LABEL])
def test_a_record_over_http_far_ahead_of_a_stream_that_jumps_opens_no_window_for_each_hour_between(kind):
    """The stream begins two years ago; the request over HTTP is of today, and so is what follows."""
    ahead_minutes = 2 * 365 * 24 * 60
    now_ms = START_MS + ahead_minutes * MINUTE_MS
    feeder = EngineFeeder()

    def predict(number, time_ms, **values):
        made = scenario.prediction(number, time_ms, **values)
        made = msgspec.structs.replace(made, scored_time_ms=now_ms)
        feeder.engine.add_prediction(0, feeder._offset(PREDICTION), made)

    def label(number, time_ms, *, is_over_http):
        made = msgspec.structs.replace(
            scenario.label(number, time_ms, 1.0), written_time_ms=now_ms, is_over_http=is_over_http
        )
        feeder.engine.add_label(0, feeder._offset(LABEL), made)

    predict(1, START_MS, source_offset=0)
    label(1, START_MS + 30 * MINUTE_MS, is_over_http=False)
    if kind == PREDICTION:
        http = dict.fromkeys(("source_partition", "source_offset"), records.ASKED_OVER_HTTP)
        predict(2, now_ms, **http)
    else:
        label(2, now_ms, is_over_http=True)
    predict(3, now_ms, source_offset=1)
    outputs = feeder.until(ahead_minutes + 30)
    assert 1 < outputs.windows_closed < 20
    assert feeder.engine.totals.joined == 1
