"""What the engine makes of predictions and labels."""

import itertools
import math
import random

import pytest

from services.drift import engine as subject
from services.drift.monitored_model import SNAPSHOTS
from streams import records
from streams.inputs import LABEL, PREDICTION, PartitionKey
from tests.unit.drift import scenario
from tests.unit.drift.scenario import HOUR_MS, START_MS, label, prediction

MINUTE_MS = 60_000


class Desk:
    """An engine with one partition of each input, and a hand that writes into them in order."""

    def __init__(self, **monitoring):
        self.engine = scenario.new_engine(scenario.declaration(**monitoring))
        self.offsets = {PREDICTION: 0, LABEL: 0}

    def _offset(self, kind):
        self.offsets[kind] += 1
        return self.offsets[kind] - 1

    def predict(self, number, minutes, **values):
        offset = self._offset(PREDICTION)
        values = {"source_offset": offset} | values
        record = prediction(number, START_MS + round(minutes * MINUTE_MS), **values)
        self.engine.add_prediction(0, offset, record)

    def label(self, number, minutes, value):
        offset = self._offset(LABEL)
        record = label(number, START_MS + round(minutes * MINUTE_MS), value, offset=offset)
        self.engine.add_label(0, offset, record)

    def until(self, minutes):
        """LossBaseline both partitions up to a time and advance."""
        for kind in (PREDICTION, LABEL):
            place = PartitionKey(kind, 0)
            self.engine.inputs.add_heartbeat(place, self._offset(kind), START_MS + round(minutes * MINUTE_MS))
        return self.engine.advance()


def outcomes(outputs):
    return [outcome for partition in outputs.outcomes.values() for outcome in partition]


def test_label_meets_its_prediction():
    desk = Desk()
    desk.predict(1, 0, score=0.25, shadow_scores={"frozen": 0.5})
    desk.label(1, 30, 1.0)
    (outcome,) = outcomes(desk.until(40))
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
    )


def test_label_of_the_same_instant_meets_its_prediction():
    desk = Desk()
    desk.label(1, 5, 1.0)
    desk.predict(1, 5)
    assert len(outcomes(desk.until(10))) == 1


def test_nothing_is_processed_before_every_partition_has_promised():
    desk = Desk()
    desk.predict(1, 0)
    desk.label(1, 30, 1.0)
    desk.engine.inputs.add_heartbeat(PartitionKey(LABEL, 0), 99, START_MS + HOUR_MS)
    assert outcomes(desk.engine.advance()) == []
    assert desk.engine.watermark_ms == START_MS - 1


def test_version_zero_is_joined_without_score_or_loss():
    desk = Desk()
    desk.predict(1, 0, version=0)
    desk.label(1, 30, 1.0)
    (outcome,) = outcomes(desk.until(40))
    assert (outcome.version, outcome.score, outcome.loss) == (0, None, None)


def test_a_certain_and_wrong_score_costs_a_finite_loss():
    desk = Desk()
    desk.predict(1, 0, score=0.0)
    desk.predict(2, 1, score=1.0)
    desk.label(1, 30, 1.0)
    desk.label(2, 30, 1.0)
    first, second = outcomes(desk.until(40))
    assert first.loss == pytest.approx(34.54, abs=0.01)
    assert second.loss == pytest.approx(0.0, abs=1e-12)


def test_label_beyond_the_horizon_is_an_orphan_and_its_prediction_unlabelled():
    desk = Desk()
    desk.predict(1, 0)
    desk.label(1, 181, 1.0)
    assert outcomes(desk.until(241)) == []
    totals = desk.engine.totals
    assert (totals.joined, totals.orphaned, totals.unlabelled) == (0, 1, 1)


def test_label_at_the_end_of_the_horizon_still_counts():
    desk = Desk()
    desk.predict(1, 0)
    desk.label(1, 180, 1.0)
    assert len(outcomes(desk.until(300))) == 1
    assert desk.engine.totals.unlabelled == 0


def test_label_without_prediction_is_an_orphan():
    desk = Desk()
    desk.label(7, 10, 1.0)
    desk.until(20)
    assert desk.engine.totals.orphaned == 1


def test_second_label_is_a_duplicate_and_conflicting_only_if_it_differs():
    desk = Desk()
    desk.predict(1, 0)
    desk.label(1, 10, 1.0)
    desk.label(1, 11, 1.0)
    desk.label(1, 12, 0.0)
    assert len(outcomes(desk.until(20))) == 1
    totals = desk.engine.totals
    assert (totals.joined, totals.duplicate, totals.conflicting) == (1, 2, 1)


def test_predictions_over_http_are_no_repeats_and_meet_their_labels():
    desk = Desk()
    http = dict.fromkeys(("source_partition", "source_offset"), records.ASKED_OVER_HTTP)
    desk.predict(1, 0, source_offset=0)
    desk.predict(2, 1, **http)
    desk.predict(3, 2, **http)
    desk.predict(4, 3, source_offset=1)
    desk.label(3, 30, 1.0)
    outputs = desk.until(60)
    (report,) = scenario.reports(outputs)
    assert (report.predictions, desk.engine.totals.repeated) == (4, 0)
    assert [outcome.prediction_id for outcome in outcomes(outputs)] == ["p3"]


def test_repeated_prediction_is_dropped():
    desk = Desk()
    desk.predict(1, 0, source_offset=0)
    desk.predict(2, 1, source_offset=1)
    desk.predict(1, 0, source_offset=0)
    desk.predict(2, 1, source_offset=1)
    desk.predict(3, 2, source_offset=2)
    (report,) = scenario.reports(desk.until(60))
    assert report.predictions == 3
    assert desk.engine.totals.repeated == 2


def test_memory_is_bounded_by_the_horizon():
    desk = Desk()
    for number in range(2400):
        desk.predict(number, number)  # one a minute for 40 hours
        desk.until(number)
    assert desk.engine.pending <= 180 + 60


def test_windows_are_aligned_and_their_end_belongs_to_the_next():
    desk = Desk()
    desk.predict(1, 59)
    desk.predict(2, 60)
    first, second = scenario.reports(desk.until(120))
    assert (first.window_start_ms, first.window_end_ms) == (START_MS, START_MS + HOUR_MS)
    assert (first.predictions, second.predictions) == (1, 1)


def test_window_stays_open_until_nothing_can_come():
    desk = Desk()
    desk.predict(1, 0)
    assert scenario.reports(desk.until(59.9)) == []
    assert len(scenario.reports(desk.until(60))) == 1


def test_out_of_order_prediction_belongs_to_its_window_while_it_is_open():
    desk = Desk()
    desk.predict(1, 50)
    desk.predict(2, 10)
    (report,) = scenario.reports(desk.until(60))
    assert report.predictions == 2
    assert desk.engine.totals.late_predictions == 0


def test_prediction_of_a_closed_window_is_joined_and_its_window_reported_again():
    desk = Desk()
    desk.predict(1, 10)
    (first,) = scenario.reports(desk.until(70))
    desk.predict(2, 20, features=[9.0, "mauve"])
    desk.label(2, 75, 1.0)
    outputs = desk.until(120)
    second, again = scenario.reports(outputs)
    assert (first.predictions, first.revision) == (1, 0)
    assert (second.predictions, second.labels) == (0, 1)
    assert (again.report_id, again.revision, again.predictions) == (first.report_id, 1, 2)
    assert again.features[1].new_categories == ["mauve"]
    assert again.alarms_standing == first.alarms_standing
    assert [outcome.prediction_id for outcome in outcomes(outputs)] == ["p2"]
    totals = desk.engine.totals
    assert (totals.late_predictions, totals.revised_predictions) == (0, 1)


def test_label_of_a_closed_window_counts_there():
    desk = Desk()
    desk.predict(1, 10, score=0.25)
    desk.until(70)
    desk.label(1, 50, 1.0)
    second, again = scenario.reports(desk.until(120))
    assert (second.labels, again.labels, again.revision) == (0, 1, 1)
    assert again.log_loss == -math.log(0.25)
    assert desk.engine.totals.revised_labels == 1


def test_what_comes_later_than_the_lateness_is_counted_and_in_no_report():
    desk = Desk(lateness_hours=2)
    desk.predict(1, 10)
    desk.predict(2, 190)
    desk.until(195)
    desk.predict(3, 61)  # its window ended at 120, and the open one began at 180
    desk.predict(4, 59)  # its window ended at 60
    reports = scenario.reports(desk.until(240))
    assert [(report.window_start_ms - START_MS) // HOUR_MS for report in reports] == [3, 1]
    assert [report.predictions for report in reports] == [1, 1]
    totals = desk.engine.totals
    assert (totals.late_predictions, totals.revised_predictions) == (1, 1)


def test_without_lateness_a_report_is_final():
    desk = Desk(lateness_hours=0)
    desk.predict(1, 10)
    desk.until(70)
    desk.predict(2, 20)
    (report,) = scenario.reports(desk.until(120))
    assert report.predictions == 0
    assert desk.engine.totals.late_predictions == 1


def test_report_counts_segments_apart():
    desk = Desk(segments=["colour"])
    for number, colour in enumerate(("red", "blue", "red", "odd")):
        desk.predict(number, number, features=[0.0, colour], score=0.25 if colour == "red" else 0.75)
        desk.label(number, number + 10, 1.0)
    (report,) = scenario.reports(desk.until(60))
    found = {each.segment: (each.predictions, each.labels, each.loss) for each in report.segments}
    assert found == {
        "colour=red": (2, 2, -math.log(0.25)),
        "colour=blue": (1, 1, -math.log(0.75)),
        "colour=green": (0, 0, None),
    }
    (red,) = [each for each in report.segments if each.segment == "colour=red"]
    assert red.score_psi is not None
    assert red.score_psi > 1


def test_bin_that_changes_in_one_segment_alone_is_ranked_there_first():
    """Of blue things, a fifth of all, x has no value any more."""

    def first_report(**monitoring):
        desk, chance = Desk(**monitoring), random.Random(4)
        for number in range(1000):
            colour = scenario.COLOURS[(0, 1, 0, 1, 0, 2, 0, 1, 0, 2)[number % 10]]
            x = None if colour == "blue" else chance.gauss(0.0, 1.0)
            desk.predict(number, number / 20, features=[x, colour])
        return scenario.reports(desk.until(60))[0]

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
    desk = Desk()
    for number in range(5):
        desk.predict(number, number)
    for number, minutes in ((0, 10), (3, 30), (1, 20), (2, 30), (4, 30)):
        desk.label(number, minutes, 1.0)
    found = outcomes(desk.until(40))
    assert [outcome.source_offset for outcome in found] == [0, 1, 2, 3, 4]


def test_report_tells_loss_accuracy_and_the_shadows_loss():
    desk = Desk()
    desk.predict(1, 0, score=0.8, prediction=1, shadow_scores={"frozen": 0.5})
    desk.predict(2, 1, score=0.4, prediction=0, shadow_scores={"frozen": 0.5})
    desk.label(1, 30, 1.0)
    desk.label(2, 30, 1.0)
    (report,) = scenario.reports(desk.until(60))
    assert report.log_loss == pytest.approx(-(math.log(0.8) + math.log(0.4)) / 2)
    assert report.accuracy == 0.5
    assert report.shadow_log_loss == {"frozen": pytest.approx(math.log(2))}
    assert report.reference_log_loss == 0.58
    assert report.labels == report.labels_joined_total == 2


def test_gap_without_events_is_skipped_once_nothing_is_pending():
    desk = Desk()
    desk.predict(1, 0)
    outputs = desk.until(60 * 24 * 365)
    assert [report.predictions for report in scenario.reports(outputs)] == [1, 0, 0, 0]
    assert scenario.reports(outputs)[-1].predictions_unlabelled_total == 1


def test_window_without_predictions_says_nothing_of_distributions():
    desk = Desk()
    desk.predict(1, 10)
    desk.label(1, 70, 1.0)
    first, second = scenario.reports(desk.until(120))
    assert [feature.feature for feature in first.features] == ["x", "colour"]
    assert (second.labels, second.features, second.score_psi) == (1, [], None)


def test_rejected_record_comes_out_as_a_dead_letter_and_opens_no_window():
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


def test_reference_is_chosen_by_the_predictions_and_not_by_the_arrival_of_the_change():
    desk = Desk()
    desk.engine.add_model(scenario.model_changed(version=2, log_loss=0.4))
    desk.predict(1, 10, version=1)
    desk.predict(2, 30, version=2)
    desk.predict(3, 70, version=2)
    first, second = scenario.reports(desk.until(120))
    assert (first.version, first.reference_log_loss) == (1, 0.58)
    assert (second.version, second.reference_log_loss) == (2, 0.4)


def test_canary_does_not_become_the_champion():
    desk = Desk()
    desk.engine.add_model(scenario.model_changed(version=2))
    desk.predict(1, 10, version=1)
    desk.predict(2, 20, version=2, arm_weight=1000)
    desk.predict(3, 70, version=2, arm_weight=1000)
    assert [report.version for report in scenario.reports(desk.until(120))] == [1, 1]


def test_unknown_version_must_be_looked_up_before_advancing():
    desk = Desk()
    desk.predict(1, 10, version=5)
    assert desk.engine.references.unknown == {5}
    desk.engine.add_model(scenario.model_changed(version=5))
    assert desk.engine.references.unknown == frozenset()


def test_version_without_reference_is_reported_without_features():
    desk = Desk()
    desk.predict(1, 10, version=5)
    desk.engine.references.give_up()
    (report,) = scenario.reports(desk.until(60))
    assert (report.version, report.features, report.score_psi) == (5, [], None)


def test_stationary_traffic_raises_nothing():
    logs = scenario.traffic(100, seed=3)
    engine = scenario.new_engine(partitions=2)
    outputs = scenario.play(engine, logs)
    assert len(scenario.reports(outputs)) >= 100
    assert scenario.alarms(outputs) == []
    assert outputs.requests == []


def test_shift_raises_each_alarm_once_and_asks_for_one_retraining():
    logs = scenario.traffic(30, seed=4, shift_at=20, a_hour=200)
    engine = scenario.new_engine(scenario.declaration(cooldown_hours=100), partitions=2)
    outputs = scenario.play(engine, logs)
    kinds = [(alarm.kind, alarm.subject) for alarm in scenario.alarms(outputs)]
    assert kinds.count(("feature", "x")) == 1
    losses = [alarm.alarm_id for alarm in scenario.alarms(outputs) if alarm.kind == "loss"]
    assert len([name for name in losses if "-window-" in name]) == 1
    assert len([name for name in losses if "-harm-" in name]) == 1
    (request,) = outputs.requests
    assert request.trigger == "drift"
    assert request.request_id == f"m-{request.requested_at_ms}"
    assert START_MS + 20 * HOUR_MS < request.requested_at_ms <= START_MS + 27 * HOUR_MS
    assert {alarm.subject for alarm in request.evidence} >= {"x", "log_loss"}
    assert request.evidence[0].kind == "loss"
    assert list(request.offsets) == ["driftline.predictions.m"]


def test_feature_alarm_tells_since_when_and_how_far():
    """x moves by two standard deviations: its mean rank from 0.50 to 0.9."""
    logs = scenario.traffic(12, seed=4, shift_at=5, a_hour=200)
    engine = scenario.new_engine(partitions=2)
    (alarm,) = [alarm for alarm in scenario.alarms(scenario.play(engine, logs)) if alarm.subject == "x"]
    shifted_ms = START_MS + 5 * HOUR_MS
    assert shifted_ms < alarm.detected_at_ms < shifted_ms + HOUR_MS
    assert alarm.since_from_ms is not None
    assert alarm.since_to_ms is not None
    assert alarm.since_from_ms <= shifted_ms <= alarm.since_to_ms <= alarm.detected_at_ms
    assert alarm.since_from_ms <= alarm.since_ms <= alarm.since_to_ms
    assert alarm.effect is not None
    assert 0.75 < alarm.effect < 0.95
    assert alarm.detector == "e-detector"


def test_alarm_is_raised_again_only_after_calm_windows_took_it_back():
    """Shifted from hour 3 to 8 and from 14 on."""
    desk, chance, found = Desk(alarm_windows=2), random.Random(2), []
    for number in range(18 * 200):
        hour = number // 200
        x = chance.gauss(2.0 if 3 <= hour < 8 or hour >= 14 else 0.0, 1.0)
        desk.predict(number, number * 0.3, features=[x, "red"])
        found += scenario.alarms(desk.until(number * 0.3))
    hours = [(alarm.detected_at_ms - START_MS) // HOUR_MS for alarm in found if alarm.subject == "x"]
    assert hours == [3, 14]


def test_new_categories_are_called_so():
    desk, chance, found = Desk(), random.Random(3), []
    for number in range(3000):
        colours = ("mauve",) if number > 1000 and chance.random() < 0.1 else ("red", "green", "blue")
        colour = chance.choices(colours, (5, 3, 2)[: len(colours)])[0]
        desk.predict(number, number / 5, features=[chance.gauss(0, 1), colour])
        found += scenario.alarms(desk.until(number / 5))
    (alarm,) = [alarm for alarm in found if alarm.kind == "category"]
    assert alarm.subject == "colour"
    assert "mauve" in alarm.message


def test_segment_raises_what_the_whole_does_not_show():
    """x shifts for blue things alone, a fifth of all."""
    desk, chance, found = Desk(segments=["colour"]), random.Random(4), []
    for number in range(3000):
        colour = chance.choices(scenario.COLOURS, (5, 3, 2))[0]
        x = chance.gauss(1.0 if colour == "blue" and number > 1000 else 0.0, 1.0)
        desk.predict(number, number / 5, features=[x, colour])
        found += scenario.alarms(desk.until(number / 5))
    assert ("x", "colour=blue") in {(alarm.subject, alarm.segment) for alarm in found}
    assert {alarm.segment for alarm in found} <= {"", "colour=blue"}
    (blue,) = [alarm for alarm in found if alarm.segment]
    assert {each.segment for each in blue.contributions} == {"colour=blue"}
    assert {alarm.subject for alarm in found} == {"x", "x and colour", "score"}  # scores are all the same


def test_detectors_of_river_watch_the_loss_when_they_are_declared():
    logs = scenario.traffic(30, seed=4, shift_at=15, a_hour=200)
    engine = scenario.new_engine(scenario.declaration(detectors=["ddm", "kswin"]), partitions=2)
    found = {alarm.detector for alarm in scenario.alarms(scenario.play(engine, logs)) if alarm.kind == "loss"}
    assert {"harm", "window"} <= found
    assert found & {"river-ddm", "river-kswin"}


def requests_of(logs, **options):
    asked = options.pop("asked", ())
    engine = scenario.new_engine(scenario.declaration(**options), partitions=2)
    for request in asked:
        engine.add_request(request)
    return [request.requested_at_ms for request in scenario.play(engine, logs).requests]


def manual(time_ms, model="m"):
    return records.RetrainingRequested(
        request_id="x", model=model, trigger="manual", requested_at_ms=time_ms, reason="r"
    )


def test_lasting_harm_asks_again_after_the_cooldown():
    logs = scenario.traffic(40, seed=4, shift_at=5, a_hour=200)
    asked = requests_of(logs, cooldown_hours=10)
    assert len(asked) > 1
    assert all(later - earlier >= 10 * HOUR_MS for earlier, later in itertools.pairwise(asked))


def test_request_of_others_starts_the_cooldown_too():
    logs = scenario.traffic(30, seed=4, shift_at=5, a_hour=200)
    free = requests_of(logs, cooldown_hours=100)
    held = requests_of(logs, cooldown_hours=10, asked=[manual(free[0] - HOUR_MS)])
    assert held[0] == free[0] + 9 * HOUR_MS


def test_later_and_equal_requests_and_those_of_other_models_hold_nothing_back():
    logs = scenario.traffic(30, seed=4, shift_at=5, a_hour=200)
    free = requests_of(logs, cooldown_hours=100)
    others = [manual(free[0]), manual(free[0] + 1), manual(free[0] - HOUR_MS, model="other")]
    assert requests_of(logs, cooldown_hours=100, asked=others) == free


def test_too_few_labels_ask_for_nothing():
    logs = scenario.traffic(30, seed=4, shift_at=5, a_hour=200)
    assert requests_of(logs, minimum_labels=100_000) == []


def test_drift_without_harm_asks_for_nothing():
    """x shifts, the model stays as good as it was."""
    desk = Desk()
    chance = random.Random(1)
    drift = []
    for number in range(3000):
        score = chance.uniform(0.1, 0.9)
        desk.predict(number, number / 5, features=[chance.gauss(2, 1), "red"], score=score)
        desk.label(number, number / 5 + 5, float(chance.random() < score))
        outputs = desk.until(number / 5)
        drift += scenario.alarms(outputs)
        assert outputs.requests == []
    assert "x" in {alarm.subject for alarm in drift}


def test_promotion_begins_the_losses_and_the_alarms_anew():
    desk = Desk(minimum_labels=1, cooldown_hours=0)
    desk.engine.add_model(scenario.model_changed(version=2, log_loss=0.5))
    asked = []
    for number in range(1200):
        version, score = (1, 0.01) if number < 600 else (2, 0.99)
        desk.predict(number, number / 2, version=version, score=score)
        desk.label(number, number / 2, 1.0)
        asked += desk.until(number / 2).requests
    assert asked
    assert max(request.requested_at_ms for request in asked) <= START_MS + 5 * HOUR_MS


def test_snapshot_goes_on_as_if_nothing_had_happened():
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


def test_topic_made_anew_with_fewer_partitions_is_an_error():
    state = scenario.new_engine(partitions=2).state()
    with pytest.raises(subject.DriftStateError, match="2 partitions, its topic 1"):
        subject.starting_state(scenario.declaration(), 1, 1, state)


def test_partitions_that_were_added_are_read_from_their_beginning():
    state = scenario.new_engine(partitions=1).state()
    grown = subject.starting_state(scenario.declaration(), 2, 1, state)
    assert [at.offset for at in (*grown.predictions, *grown.labels)] == [0, 0, 0]


def test_report_names_the_alarms_that_stand_and_no_more_once_they_are_taken_back():
    outputs = scenario.play(scenario.new_engine(partitions=2), scenario.traffic(20, shift_at=8, a_hour=200))
    last_of = {
        report.window_end_ms: set(report.alarms_standing or ()) for report in scenario.reports(outputs)
    }
    raised = {alarm.alarm_id: alarm.detected_at_ms for alarm in scenario.alarms(outputs)}
    assert raised
    for alarm_id, detected_at_ms in raised.items():
        window_end_ms = min(end for end in last_of if end >= detected_at_ms)
        assert alarm_id in last_of[window_end_ms]
    assert set().union(*last_of.values()) == raised.keys()
    assert last_of[min(last_of)] == set()
