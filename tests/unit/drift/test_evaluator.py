"""The evaluator, through the engine: every task, costs, champions, estimates, and retraining requests."""

import itertools
import math
import random

import msgspec
import pytest

from services.drift.monitored_model import SNAPSHOTS
from services.monitoring.model_metrics import COST
from services.monitoring.prediction_decoder import PredictionDecoder
from services.runtime.declaration import ModelDeclaration
from streams import codec, records
from streams.inputs import LABEL, PREDICTION, PartitionKey
from tests.unit.drift import scenario
from tests.unit.drift.scenario import HOUR_MS, START_MS, EngineFeeder
from tests.unit.monitoring.test_prediction_decoder import Message

CLASSES = ["calm", "rain", "snow"]


def document(task, **sections):
    found = scenario.document(mature_share=0.9)
    found["task"] = task
    if task != "binary":
        del found["gates"], found["label"]["positive_above"]
    if task == "multiclass":
        found["classes"] = CLASSES
        found["label"]["schema"]["y"] = "string"
    for name, changes in sections.items():
        found[name] = found.get(name, {}) | changes
    return found


class HourlyRun:
    """Feeds an engine hour by hour, with a reference or without one, and collects its outputs."""

    def __init__(self, declaration, reference=None):
        self.engine = scenario.new_engine(declaration)
        if reference is not None:
            self.engine.add_model(
                msgspec.structs.replace(scenario.model_changed(), reference=reference, changed_at_ms=START_MS)
            )
        self.declaration = declaration
        self.chance = random.Random(2)
        self._waiting = []
        self.offsets = {PREDICTION: 0, LABEL: 0}
        self.drift, self.requests, self.outcomes = [], [], []

    def hours(self, hours, ask, *, a_hour=60, delay_minutes=5):
        """Take ask(chance) for each request: the score, the other fields of the answer, and the label."""
        for hour in hours:
            for number in range(a_hour):
                time_ms = START_MS + hour * HOUR_MS + number * HOUR_MS // a_hour
                score, answer, label = ask(self.chance)
                offset = self._next(PREDICTION)
                prediction = scenario.prediction(offset, time_ms, score=score, source_offset=offset, **answer)
                self.engine.add_prediction(0, offset, prediction)
                self._waiting.append((time_ms + delay_minutes * 60_000, offset, label))
            end_ms = START_MS + (hour + 1) * HOUR_MS
            for label_ms, number, label in [each for each in self._waiting if each[0] < end_ms]:
                self.engine.add_label(
                    0, self.offsets[LABEL], scenario.label(number, label_ms, label, offset=self._next(LABEL))
                )
            self._waiting = [each for each in self._waiting if each[0] >= end_ms]
            self._advance(end_ms)

    def _next(self, kind):
        self.offsets[kind] += 1
        return self.offsets[kind] - 1

    def _advance(self, now_ms):
        for kind in (PREDICTION, LABEL):
            self.engine.inputs.add_heartbeat(PartitionKey(kind, 0), self._next(kind), now_ms)
        if self.engine.references.unknown:
            self.engine.references.give_up()
        outputs = self.engine.advance()
        self.drift += outputs.drift
        self.requests += outputs.requests
        self.outcomes += [each for part in outputs.outcomes.values() for each in part]

    def of(self, kind):
        return [each for each in self.drift if isinstance(each, kind)]

    @property
    def mature(self):
        return [each for each in self.of(records.PerformanceReport) if each.state != "provisional"]


def figure(report, measure):
    return next(each for each in report.segments[0].figures if each.measure == measure)


def minutes(error):
    def ask(chance):
        truth = chance.gauss(20, 5)
        score = truth + chance.gauss(0, error)
        return score, {"prediction": score, "features": [], "version": 9}, truth

    return ask


def test_a_regression_without_reference_gets_its_baseline_from_its_first_labels():
    declaration = ModelDeclaration.model_validate(
        document("regression", business={"unit": "min", "under": 2}, monitoring={"loss_tolerance": 0.5})
    )
    run = HourlyRun(declaration)
    run.hours(range(30), minutes(3))
    outcome = run.outcomes[0]
    assert outcome.loss == pytest.approx((outcome.score - outcome.label) ** 2)
    assert outcome.cost == pytest.approx(2 * max(outcome.label - outcome.score, 0))
    report = run.of(records.DriftReport)[5]
    assert (report.log_loss, report.accuracy, report.shadow_log_loss) == (None, None, {})
    assert report.measures["absolute_error"] == pytest.approx(3 * math.sqrt(2 / math.pi), abs=0.7)
    assert report.measures["bias"] == pytest.approx(0, abs=1.2)
    assert run.of(records.DriftAlarm) == []
    last = figure(run.mature[-1], "absolute_error")
    assert last.running_low < 3 * math.sqrt(2 / math.pi) < last.running_high
    assert last.estimated == pytest.approx(last.realised, abs=0.8)
    run.hours(range(30, 45), minutes(8))
    assert {(each.kind, each.subject) for each in run.of(records.DriftAlarm)} == {("loss", "absolute_error")}
    assert {each.detector for each in run.of(records.DriftAlarm)} == {"harm"}
    assert run.requests == []


def test_versions_of_a_continual_learner_are_one_champion():
    declaration = ModelDeclaration.model_validate(document("regression", learning={"every_hours": 1}))
    run = HourlyRun(declaration)
    for hour in range(24):
        ask = minutes(3)

        def versioned(chance, ask=ask, version=hour + 1):
            score, answer, truth = ask(chance)
            return score, answer | {"version": version}, truth

        from_ms = START_MS + hour * HOUR_MS
        run.engine.add_model(
            msgspec.structs.replace(scenario.model_changed(hour + 1, from_ms=from_ms), reference=None)
        )
        run.hours(range(hour, hour + 1), versioned, delay_minutes=90)
    last = run.mature[-1]
    assert last.segments[0].running_labels == 3 * 60  # of cohorts that began when errors had a scale
    assert [each.version for each in run.mature[-3:]] == [20, 21, 22]
    assert len(run.outcomes) == sum(each.labels for each in run.of(records.DriftReport))


def weather(sure):
    def ask(chance):
        truth = chance.randrange(3)
        predicted = truth if chance.random() < sure else (truth + 1) % 3
        probabilities = [0.15] * 3
        probabilities[predicted] = 0.7
        answer = {
            "prediction": CLASSES[predicted],
            "probabilities": probabilities,
            "shadow_scores": {"frozen": 0.4},
        }
        return 0.7, answer | {"features": [], "version": 9}, float(truth)

    return ask


def test_the_loss_of_several_classes_is_that_of_the_true_class():
    run = HourlyRun(ModelDeclaration.model_validate(document("multiclass")))
    run.hours(range(20), weather(0.7))
    wrong = next(each for each in run.outcomes if each.loss > 1)
    assert wrong.loss == pytest.approx(-math.log(0.15))
    assert wrong.class_name == CLASSES[int(wrong.label)]
    report = run.of(records.DriftReport)[3]
    assert report.accuracy == report.measures["accuracy"] == pytest.approx(0.7, abs=0.2)
    assert report.log_loss == pytest.approx(report.measures["log_loss"])
    assert report.shadow_losses == {}
    run.hours(range(20, 36), weather(0.3))
    assert {each.subject for each in run.of(records.DriftAlarm)} == {"log_loss"}


def test_a_class_label_becomes_its_number_and_an_unknown_class_a_dead_letter():
    declaration = ModelDeclaration.model_validate(document("multiclass"))
    engine = scenario.new_engine(declaration)
    at = b"2013-01-01T02:00:00+01:00"
    messages = [
        Message(b'{"id": "p%d", "at": "%s", "y": "%s"}' % (offset, at, value), offset)
        for offset, value in enumerate((b"snow", b"hail"))
    ]
    PredictionDecoder("drift", declaration, engine).take_labels(messages, codec.LATEST_MS)
    for kind, offset in ((PREDICTION, 0), (LABEL, 2)):
        engine.inputs.add_heartbeat(PartitionKey(kind, 0), offset, START_MS + 9 * HOUR_MS)
    label, letter = engine.inputs.take()
    assert label.record.value == 2.0
    assert letter.record.reason == "the label's value is 'hail', which is not one of the declared classes"


COSTS = {"unit": "USD", "costs": {"0": {"0": 0, "1": 30}, "1": {"0": 2, "1": 0}}, "tolerance": 1}


def binary(answer_at, high=0.9):
    def ask(chance):
        score = chance.uniform(0.1, high)
        answer = float(score >= answer_at)
        return score, {"prediction": answer}, float(chance.random() < score)

    return ask


def test_a_cost_that_is_worse_requests_a_retraining_although_the_loss_is_not():
    """The application uses another threshold: scores and losses are the same, mistakes cost more."""
    retraining = {"harm": "cost", "cooldown_days": 100, "minimum_labels": 50}
    known = msgspec.structs.replace(scenario.reference(), measures={COST: 1.35})
    run = HourlyRun(
        ModelDeclaration.model_validate(document("binary", business=COSTS, retraining=retraining)), known
    )
    run.hours(range(12), binary(0.2))
    assert run.requests == []
    assert figure(run.mature[-1], COST).running_low < 1.35 < figure(run.mature[-1], COST).running_high
    run.hours(range(12, 18), binary(0.8))
    (request,) = run.requests
    assert request.evidence[0].subject == COST
    assert request.basis == "labels"
    assert START_MS + 9 * HOUR_MS <= request.since_ms <= request.requested_at_ms
    assert (request.train_from_ms, request.train_to_ms) == (request.since_ms, request.requested_at_ms)
    assert "log_loss" not in {each.subject for each in run.of(records.DriftAlarm)}


@pytest.mark.parametrize("on_estimate", [True, False])
def test_a_loss_estimated_to_be_worse_requests_a_retraining_before_the_labels_if_declared(on_estimate):
    """Requests become harder, which their scores show; their labels come 40 hours later."""
    retraining = {"on_estimate": on_estimate, "cooldown_days": 100, "minimum_labels": 50}
    found = document("binary", retraining=retraining, monitoring={"loss_tolerance": 0.05})
    found["label"]["horizon_hours"] = 48
    run = HourlyRun(ModelDeclaration.model_validate(found), scenario.reference(log_loss=0.56))
    run.hours(range(60), binary(0.5), a_hour=200, delay_minutes=5)
    assert run.requests == []

    def harder(chance):
        score = chance.uniform(0.42, 0.58)
        return score, {"prediction": float(score >= 0.5)}, float(chance.random() < score)

    run.hours(range(60, 68), harder, a_hour=200, delay_minutes=40 * 60)
    alarms = [each for each in run.of(records.DriftAlarm) if each.subject == "estimated_log_loss"]
    assert [each.detector for each in alarms] == ["estimate"]
    assert "the mean log loss estimated since 3 Jan 2013 is" in alarms[0].message
    assert [each.basis for each in run.requests] == ["estimate"] * on_estimate


def test_a_snapshot_without_performance_can_be_restored():
    run = HourlyRun(scenario.declaration())
    run.hours(range(3), binary(0.5))
    state = run.engine.state()
    old = msgspec.msgpack.decode(msgspec.msgpack.encode(state))
    del old["judge"]["performance"]
    restored = msgspec.msgpack.decode(msgspec.msgpack.encode(old), type=type(state))
    fresh = scenario.new_engine(scenario.declaration(), state=restored)
    run.engine = fresh
    run.hours(range(3, 12), binary(0.5))
    assert run.mature[-1].segments[0].running_labels > 0
    assert SNAPSHOTS.decode(SNAPSHOTS.encode("m", "t", fresh.state()), "m", "t") == fresh.state()


def test_the_size_of_the_state_does_not_depend_on_the_traffic():
    run = HourlyRun(scenario.declaration())
    run.hours(range(12), binary(0.5), a_hour=30)
    few = len(msgspec.msgpack.encode(run.engine.state().evaluator.performance))
    run.hours(range(12, 24), binary(0.5), a_hour=300)
    assert len(msgspec.msgpack.encode(run.engine.state().evaluator.performance)) < 1.1 * few


def test_a_shift_raises_each_alarm_once_and_requests_one_retraining():
    logs = scenario.traffic(30, seed=4, shift_at=20, a_hour=200)
    engine = scenario.new_engine(scenario.declaration(cooldown_hours=100), partitions=2)
    outputs = scenario.play(engine, logs)
    kinds = [(alarm.kind, alarm.subject) for alarm in scenario.alarms(outputs)]
    assert kinds.count(("feature", "x")) == 1
    losses = [alarm.alarm_id for alarm in scenario.alarms(outputs) if alarm.kind == "loss"]
    assert len(losses) == 1
    (request,) = outputs.requests
    assert request.trigger == "drift"
    assert request.request_id == f"m-{request.requested_at_ms}"
    assert START_MS + 20 * HOUR_MS < request.requested_at_ms <= START_MS + 27 * HOUR_MS
    assert {alarm.subject for alarm in request.evidence} >= {"x", "log_loss"}
    assert request.evidence[0].kind == "loss"
    assert list(request.offsets) == ["driftline.predictions.m"]


def requests_of(logs, **options):
    earlier = options.pop("earlier", ())
    engine = scenario.new_engine(scenario.declaration(**options), partitions=2)
    for request in earlier:
        engine.add_retraining(request)
    return [request.requested_at_ms for request in scenario.play(engine, logs).requests]


def manual(time_ms, model="m"):
    return records.RetrainingRequested(
        request_id="x", model=model, trigger="manual", requested_at_ms=time_ms, reason="r"
    )


def test_a_loss_that_stays_worse_requests_again_after_the_cooldown():
    logs = scenario.traffic(40, seed=4, shift_at=5, a_hour=200)
    requested = requests_of(logs, cooldown_hours=10)
    assert len(requested) > 1
    assert all(later - earlier >= 10 * HOUR_MS for earlier, later in itertools.pairwise(requested))


def test_a_request_of_another_origin_starts_the_cooldown():
    logs = scenario.traffic(30, seed=4, shift_at=5, a_hour=200)
    free = requests_of(logs, cooldown_hours=100)
    delayed = requests_of(logs, cooldown_hours=10, earlier=[manual(free[0] - HOUR_MS)])
    assert delayed[0] == free[0] + 9 * HOUR_MS


def test_later_requests_and_those_of_other_models_do_not_start_the_cooldown():
    logs = scenario.traffic(30, seed=4, shift_at=5, a_hour=200)
    free = requests_of(logs, cooldown_hours=100)
    others = [manual(free[0]), manual(free[0] + 1), manual(free[0] - HOUR_MS, model="other")]
    assert requests_of(logs, cooldown_hours=100, earlier=others) == free


def test_too_few_labels_request_nothing():
    logs = scenario.traffic(30, seed=4, shift_at=5, a_hour=200)
    assert requests_of(logs, minimum_labels=100_000) == []


def test_drift_of_a_feature_requests_nothing_while_the_loss_is_not_worse():
    """x shifts; the model stays calibrated."""
    feeder = EngineFeeder()
    chance = random.Random(1)
    drift = []
    for number in range(3000):
        score = chance.uniform(0.1, 0.9)
        feeder.predict(number, number / 5, features=[chance.gauss(2, 1), "red"], score=score)
        feeder.label(number, number / 5 + 5, float(chance.random() < score))
        outputs = feeder.until(number / 5)
        drift += scenario.alarms(outputs)
        assert outputs.requests == []
    assert "x" in {alarm.subject for alarm in drift}


def test_a_promotion_clears_losses_and_alarms():
    feeder = EngineFeeder(minimum_labels=1, cooldown_hours=0)
    feeder.engine.add_model(scenario.model_changed(version=2, log_loss=0.5, from_ms=START_MS + 5 * HOUR_MS))
    requests = []
    for number in range(1200):
        version, score = (1, 0.01) if number < 600 else (2, 0.99)
        feeder.predict(number, number / 2, version=version, score=score)
        feeder.label(number, number / 2, 1.0)
        requests += feeder.until(number / 2).requests
    assert requests
    assert max(request.requested_at_ms for request in requests) <= START_MS + 5 * HOUR_MS


def test_a_report_names_the_active_alarms_only():
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


def test_windows_before_and_after_a_promotion_are_compared_with_their_own_champion():
    feeder = EngineFeeder()
    feeder.engine.add_model(
        scenario.model_changed(version=2, log_loss=0.4, from_ms=START_MS + 30 * scenario.MINUTE_MS)
    )
    feeder.predict(1, 10, version=1)
    feeder.predict(2, 30, version=2)
    feeder.predict(3, 70, version=2)
    first, second = scenario.reports(feeder.until(120))
    assert (first.version, first.reference_log_loss) == (1, 0.58)
    assert (second.version, second.reference_log_loss) == (2, 0.4)


SHIFT_HOUR, HOURS = 12, 24
PROMOTED_MS = START_MS + 6 * HOUR_MS


def with_other_rows(change, *changes):
    """Return the outputs for a shift in hour `SHIFT_HOUR`, and how often the champion changed.

    Args:
        change: Returns the changed fields of a prediction, of a row and a random generator.
        changes: Of the models, known from the start.
    """
    logs = scenario.traffic(HOURS, shift_at=SHIFT_HOUR, a_hour=100, partitions=1)
    chance = random.Random(3)
    log = [
        msgspec.structs.replace(each.record, **change(each.record, chance))
        if isinstance(each.record, records.Prediction)
        else each.record
        for each in logs.predictions[0]
    ]
    engine = scenario.new_engine()
    for each in (scenario.model_changed(2, from_ms=PROMOTED_MS), *changes):
        engine.add_model(each)
    player, outputs, champions = (
        scenario.Player(scenario.Traffic([scenario.numbered(log)], logs.labels)),
        [],
        [],
    )
    while places := player.open:
        outputs += [player.step(engine, place, 5) for place in places]
        champions.append(engine.champions.version)
    champions = list(filter(None, champions))
    flips = sum(before != after for before, after in itertools.pairwise(champions))
    return scenario.merge(outputs), flips


def raised(outputs):
    return {(each.kind, each.subject, each.detected_at_ms) for each in scenario.alarms(outputs)}


def at(prediction):
    return 2 if prediction.event_time_ms >= PROMOTED_MS else 1


def test_rows_of_a_worker_that_changes_late_change_no_champion_and_no_alarm():
    """One row in ten after the promotion is answered by the old version, by the same arm."""
    expected, flips = with_other_rows(lambda row, _: {"version": at(row)})
    assert flips == 1
    found, flips = with_other_rows(lambda row, chance: {"version": at(row) if chance.random() > 0.1 else 1})
    assert flips == 1
    about_rows = {each for each in raised(expected) if each[0] == "feature"}
    assert {each for each in raised(found) if each[0] == "feature"} == about_rows != set()
    assert found.requests


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_challenger_with_half_of_the_keys_or_more_does_not_become_the_champion(share):
    def change(row, chance):
        if chance.random() < share:
            return {"version": 3, "arm": "new", "arm_weight": round(share * 10_000)}
        return {"version": at(row), "arm_weight": round((1 - share) * 10_000)}

    found, flips = with_other_rows(change, msgspec.structs.replace(scenario.model_changed(3), arms=[]))
    assert flips == 1
    assert {kind for kind, _, _ in raised(found)} >= {"feature"}


def test_a_challenger_with_most_of_a_segment_does_not_become_the_champion():
    def change(row, chance):
        if row.features[1] == "red" and chance.random() < 0.6:
            return {"version": 3, "arm": "west", "arm_weight": 6000}
        return {"version": at(row)}

    expected, _ = with_other_rows(lambda row, _: {"version": at(row)})
    found, flips = with_other_rows(change, msgspec.structs.replace(scenario.model_changed(3), arms=[]))
    assert flips == 1
    about_rows = {each for each in raised(expected) if each[0] == "feature"}
    assert {each for each in raised(found) if each[0] == "feature"} == about_rows != set()


def mixed_labels(engine_feeder):
    """Feed three labels of the champion and two of a challenger, whose losses are five times higher."""
    for number in range(5):
        arm = {} if number < 3 else {"version": 2, "arm": "new", "score": 0.1}
        engine_feeder.predict(number, number, **({"score": 0.8, "prediction": 1} | arm))
        engine_feeder.label(number, 20 + number, 1.0)


def test_means_of_the_champion_hold_no_rows_of_other_arms():
    feeder = EngineFeeder(segments=["colour"])
    feeder.engine.add_model(msgspec.structs.replace(scenario.model_changed(2), arms=[]))
    mixed_labels(feeder)
    (report,) = scenario.reports(feeder.until(60))
    assert (report.version, report.predictions, report.labels) == (1, 5, 3)
    assert report.log_loss == report.measures["log_loss"] == pytest.approx(-math.log(0.8))
    assert report.accuracy == 1
    segment = next(each for each in report.segments if each.segment == "colour=red")
    assert (segment.predictions, segment.labels) == (5, 3)
    assert segment.loss == pytest.approx(-math.log(0.8))


def test_each_arm_has_exact_sums_of_its_own():
    feeder = EngineFeeder()
    feeder.engine.add_model(msgspec.structs.replace(scenario.model_changed(2), arms=[]))
    mixed_labels(feeder)
    feeder.predict(5, 5, fallback_from="new", fallback_version=2, shadow_versions={"frozen": 4})
    (report,) = scenario.reports(feeder.until(60))
    found = {(each.arm, each.version, each.shadow): each for each in report.arms}
    assert {key: (each.predictions, each.labels) for key, each in found.items()} == {
        ("champion", 1, False): (4, 3), ("new", 2, False): (2, 2), ("frozen", 0, True): (5, 5),
        ("frozen", 4, True): (1, 0),
    }  # fmt: skip
    for key, loss in {
        ("champion", 1, False): -math.log(0.8), ("new", 2, False): -math.log(0.1),
        ("frozen", 0, True): math.log(2),
    }.items():  # fmt: skip
        figures = found[key].measures[0]
        assert (figures.measure, figures.labels) == ("log_loss", found[key].labels)
        assert figures.total == pytest.approx(loss * figures.labels)
        assert figures.squares == pytest.approx(loss**2 * figures.labels)
    assert {each.measure for each in found["new", 2, False].measures} == report.measures.keys()
    assert report.fallbacks == {"new": 1}
    assert {key: each.failed for key, each in found.items() if each.failed} == {("new", 2, False): 1}
    assert [each.arm for each in report.arms if each.is_champion] == ["champion"]


def test_labels_of_the_champion_before_do_not_count_for_the_present_one():
    feeder = EngineFeeder()
    feeder.engine.add_model(scenario.model_changed(2, from_ms=START_MS + HOUR_MS))
    feeder.predict(1, 10)
    feeder.predict(2, 70, version=2, score=0.8, prediction=1)
    feeder.label(1, 75, 1.0)
    feeder.label(2, 80, 1.0)
    _, report = scenario.reports(feeder.until(120))
    assert (report.version, report.labels) == (2, 1)
    assert report.log_loss == pytest.approx(-math.log(0.8))
    labels = {each.version: each.labels for each in report.arms if not each.shadow}
    assert labels == {1: 1, 2: 1}


def test_a_challenger_of_a_continual_learner_is_not_the_champion():
    declaration = ModelDeclaration.model_validate(document("regression", learning={"every_hours": 1}))
    run = HourlyRun(declaration)
    champion, challenger = minutes(3), minutes(30)

    def mixed(chance):
        ask, arm = (champion, "champion") if chance.random() < 0.5 else (challenger, "pinned")
        score, answer, truth = ask(chance)
        return score, answer | {"arm": arm, "version": 1 if arm == "champion" else 2}, truth

    run.hours(range(12), mixed)
    report = [each for each in run.of(records.DriftReport) if each.labels][-1]
    (own,) = [each for each in report.arms if each.arm == "champion"]
    assert report.labels == own.labels
    assert report.measures["absolute_error"] == own.measures[0].total / own.measures[0].labels
    assert report.measures["absolute_error"] < 6
    assert {each.labels for each in run.mature} <= {
        each.predictions for each in run.of(records.PerformanceReport)
    }
