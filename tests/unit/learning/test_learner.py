"""What is learned depends on the content of the inputs alone."""

import random
from typing import Any

import msgspec
import pytest
import structlog.testing
from pydantic import ValidationError

from services.learning.session import CHECKPOINTS
from services.model_registry import river_format
from services.scoring.river_model import RiverModel
from streams import records
from streams.feature_sets import FeatureSets, feature_set
from streams.inputs import LABEL, PREDICTION, PartitionKey
from tests.unit.learning import traffic
from tests.unit.learning.traffic import HOUR_MS, START_MS

LOGS = traffic.traffic(20)


@pytest.fixture(scope="module")
def straight():
    """Return the outputs for the logs without any interruption."""
    return traffic.play(traffic.new_learner(), LOGS)


@pytest.mark.parametrize("seed", range(5))
def test_neither_interleaving_nor_slices_change_what_is_learned(straight, seed):
    outputs = traffic.play(traffic.new_learner(), LOGS, random.Random(seed))
    assert traffic.published(outputs) == traffic.published(straight)
    assert traffic.changes(outputs) == traffic.changes(straight)


@pytest.mark.parametrize("partitions", [1, 3])
def test_number_of_partitions_does_not_change_what_is_learned(straight, partitions):
    logs = traffic.traffic(20, partitions=partitions)
    assert traffic.published(traffic.play(traffic.new_learner(partitions), logs)) == traffic.published(
        straight
    )


@pytest.mark.parametrize("seed", range(5))
def test_restarts_from_checkpoints_change_nothing(straight, seed):
    """A restart repeats everything after the checkpoint, with the same results."""
    chance, player, learner, outputs = random.Random(seed), traffic.Player(LOGS), traffic.new_learner(), []
    kept = CHECKPOINTS.encode("m", "m.labels", learner.state())
    while places := player.open:
        outputs.append(player.step(learner, chance.choice(places), chance.randrange(1, 60)))
        if chance.random() < 0.2:
            kept = CHECKPOINTS.encode("m", "m.labels", learner.state())
        if chance.random() < 0.1:
            learner = traffic.new_learner(state=CHECKPOINTS.decode(kept, "m", "m.labels"))
            player.seek(learner)
    versions: dict[int, records.LearnedModel] = {}
    for each in traffic.published(outputs):
        assert versions.setdefault(each.version, each) == each
    assert list(versions.values()) == traffic.published(straight)
    assert traffic.changes(outputs)[-1] == traffic.changes(straight)[-1]


@pytest.mark.parametrize("offset", [2**62, 30])
def test_a_forged_offset_drops_no_honest_prediction(straight, offset):
    """Neither before nor after a restart: all that is learned is what is learned without it."""
    forged = traffic.prediction(10**6, START_MS, [1.0, "red"], None, 0, offset, "m")
    first, second = LOGS.predictions
    logs = traffic.Traffic([[*first[:20], forged, *first[20:]], second], LOGS.labels)
    player, learner, outputs = traffic.Player(logs), traffic.new_learner(), []
    outputs += [player.step(learner, place, 25) for place in (*player.open, *player.open)]
    kept = CHECKPOINTS.encode("m", "m.labels", learner.state())
    learner = traffic.new_learner(state=CHECKPOINTS.decode(kept, "m", "m.labels"))
    player.seek(learner)
    while places := player.open:
        outputs.append(player.step(learner, places[0], 10**6))
    lost = int(offset == 30)  # it has the offset of an honest one
    assert learner.totals.repeated == lost
    if not lost:
        assert traffic.published(outputs) == traffic.published(straight)


@pytest.mark.parametrize("place", [0, 40])
@pytest.mark.parametrize("home", [0, 1])
def test_an_answer_over_http_dated_months_ahead_changes_nothing_that_is_learned(straight, place, home):
    """Also as the first record of its partition."""
    http = dict.fromkeys(("source_partition", "source_offset"), records.ASKED_OVER_HTTP)
    given = traffic.prediction(10**6, START_MS + 240 * 24 * HOUR_MS, [1.0, "red"], None, home, 0, "m")
    wall_ms = START_MS + 10_000 * HOUR_MS
    logs = traffic.Traffic(
        [[_written(each, wall_ms) for each in log] for log in LOGS.predictions], LOGS.labels
    )
    logs.predictions[home].insert(place, _written(msgspec.structs.replace(given, **http), wall_ms))
    learner = traffic.new_learner()
    outputs = traffic.play(learner, logs, random.Random(3))
    assert traffic.published(outputs) == traffic.published(straight)
    plain = traffic.new_learner()
    traffic.play(plain, LOGS)
    assert (learner.totals.joined, learner.totals.orphaned) == (plain.totals.joined, plain.totals.orphaned)


def _written(record: Any, wall_ms: int) -> Any:
    is_prediction = isinstance(record, records.Prediction)
    return msgspec.structs.replace(record, scored_time_ms=wall_ms) if is_prediction else record


def test_versions_are_the_numbers_of_their_intervals_and_take_effect_after_the_delay(straight):
    found = traffic.published(straight)
    assert [each.version for each in found] == list(range(found[0].version, found[-1].version + 1))
    for each, change in zip(found, traffic.changes(straight), strict=True):
        assert change.arms[-1] == records.Arm(
            name="champion", version=each.version, weight=10_000,
            effective_from_ms=each.interval_end_ms + 3 * HOUR_MS,
        )  # fmt: skip
        assert change.changed_at_ms == each.interval_end_ms


def test_change_lists_every_version_that_still_answers(straight):
    """Versions are two hours apart and three hours ahead: one is in effect, one waits, one is new."""
    latest = traffic.published(straight)[-1].version
    listed = [arm.version for arm in traffic.changes(straight)[-1].arms]
    assert listed == [latest - 2, latest - 1, latest]


def test_nothing_is_published_before_the_declared_number_of_labels(straight):
    assert traffic.published(straight)[0].labels >= 50
    many = {"every_hours": 2, "minimum_labels": 10**6}
    assert not traffic.published(traffic.play(traffic.new_learner(learning=many), LOGS))


def test_published_model_has_learned_the_labels(straight):
    """The labels are 3x, plus 5 for red."""
    model = RiverModel(river_format.decode(traffic.published(straight)[-1].estimator))
    answers = model.predict(traffic.columns([1.0, -1.0, None], ["red", "blue", "blue"]))
    assert answers == pytest.approx([8.0, -3.0, 0.0], abs=1.5)


def test_loss_is_that_of_the_served_predictions(straight):
    """The served score is 3x + 1, so its error is 1, or 4 for red, plus noise."""
    losses = [step.loss for step in straight if step.loss is not None]
    assert losses
    assert losses[-1] == pytest.approx(2.3, abs=0.5)


def test_second_label_and_label_without_prediction_are_not_learned():
    learner = traffic.new_learner(1)
    served = traffic.prediction(1, START_MS, [1.0, "red"], None, 0, 0, "m")
    traffic.feed(learner, PartitionKey(PREDICTION, 0), 0, served)
    for offset, identity in enumerate(("p1", "p1", "p2")):
        label = records.Label(
            prediction_id=identity, event_time_ms=START_MS + offset, value=1.0, source_partition=0,
            source_offset=offset,
        )  # fmt: skip
        traffic.feed(learner, PartitionKey(LABEL, 0), offset, label)
    for kind, offset in ((PREDICTION, 1), (LABEL, 3)):
        traffic.feed(learner, PartitionKey(kind, 0), offset, START_MS + 9 * HOUR_MS)
    learner.advance()
    assert (learner.counts.learned, learner.totals.duplicate, learner.totals.orphaned) == (1, 1, 1)
    assert len(learner.pending) == 0


def test_unfit_rows_are_counted_and_the_others_learned():
    learner = traffic.new_learner(1)
    rows: list[list[Any]] = [[1.0, "red"], [1.0], ["many", "red"]]
    for number, features in enumerate(rows):
        traffic.feed(
            learner, PartitionKey(PREDICTION, 0), number,
            traffic.prediction(number, START_MS, features, None, 0, number, "m"),
        )  # fmt: skip
        label = records.Label(
            prediction_id=f"p{number}", event_time_ms=START_MS, value=1.0, source_partition=0,
            source_offset=number,
        )  # fmt: skip
        traffic.feed(learner, PartitionKey(LABEL, 0), number, label)
    for kind in (PREDICTION, LABEL):
        traffic.feed(learner, PartitionKey(kind, 0), 3, START_MS + 9 * HOUR_MS)
    learner.advance()
    assert (learner.counts.learned, learner.counts.unfit, learner.counts.failed) == (1, 1, 1)


OLD, NEW = ({"x": f"sum over {hours} h"} for hours in (1, 2))
SETS = [feature_set("m", traffic.NAMES, ["colour"], each) for each in (None, OLD, NEW)]
HALF = 10 * HOUR_MS
"""Time of the change, from the start."""


def redefined(old: records.FeatureSet) -> traffic.Traffic:
    """Return the traffic with a change of a definition in the middle: x was ten times as large."""

    def served(each: Any) -> Any:
        if not isinstance(each, records.Prediction):
            return each
        if each.event_time_ms >= START_MS + HALF:
            return msgspec.structs.replace(each, feature_set=SETS[2].digest)
        x, colour = each.features
        features = [x if x is None else 10 * x, colour]
        return msgspec.structs.replace(each, feature_set=old.digest, features=features)

    return traffic.Traffic([[served(each) for each in log] for log in LOGS.predictions], LOGS.labels)


def later_half() -> traffic.Traffic:
    """Return the same traffic without values in the first half."""

    def served(each: Any) -> Any:
        is_old = isinstance(each, records.Prediction) and each.event_time_ms < START_MS + HALF
        return msgspec.structs.replace(each, features=[]) if is_old else each

    return traffic.Traffic([[served(each) for each in log] for log in LOGS.predictions], LOGS.labels)


def test_rows_of_another_definition_are_not_learned_and_the_log_says_so():
    logs = redefined(SETS[1])
    learner = traffic.new_learner(sets=FeatureSets(SETS), definitions=NEW)
    with structlog.testing.capture_logs() as told:
        outputs = traffic.play(learner, logs)
    wanted = traffic.play(traffic.new_learner(), later_half())
    assert traffic.published(outputs) == traffic.published(wanted)
    rows = sum(
        isinstance(each, records.Prediction) and each.feature_set == SETS[1].digest
        for log in logs.predictions
        for each in log
    )
    assert (learner.counts.redefined, learner.totals.unnamed) == (rows, 0)
    assert [(each["event"], each["redefined"]) for each in told] == [("learning.rows_left_out", ["x"])]


@pytest.mark.parametrize("seed", range(3))
def test_a_change_of_definition_begins_anew_whenever_the_process_restarts(seed):
    """What is learned of the new definition neither depends on the restarts nor on the former rows."""
    chance, player, wanted = random.Random(seed), traffic.Player(redefined(SETS[1])), {}
    for each in traffic.published(traffic.play(traffic.new_learner(), later_half())):
        wanted[each.version] = each.estimator
    definitions = OLD
    learner = traffic.new_learner(sets=FeatureSets(SETS), definitions=definitions)
    found: dict[int, bytes] = {}
    while places := player.open:
        published = traffic.published([player.step(learner, chance.choice(places), chance.randrange(1, 60))])
        found |= {each.version: each.estimator for each in published}
        if definitions is OLD and learner.inputs.frontier_ms > START_MS + HALF - 4 * HOUR_MS:
            definitions = NEW  # before the first row that was served so, as `DefinitionWatch` takes care
        elif chance.random() > 0.2:
            continue
        kept = CHECKPOINTS.encode("m", "m.labels", learner.state())
        state = CHECKPOINTS.decode(kept, "m", "m.labels")
        learner = traffic.new_learner(state=state, sets=FeatureSets(SETS), definitions=definitions)
        player.seek(learner)
    last = max(wanted)
    assert found[last] == wanted[last]
    assert learner.counts.learned > 0


def test_rows_that_tell_no_definition_are_taken_to_fit_and_the_log_says_so():
    learner = traffic.new_learner(sets=FeatureSets(SETS), definitions=NEW)
    with structlog.testing.capture_logs() as told:
        traffic.play(learner, redefined(SETS[0]))
    assert (learner.counts.redefined, learner.counts.unfit) == (0, 0)
    assert [(each["event"], each["taken_to_fit"]) for each in told] == [
        ("learning.definitions_unknown", ["x"])
    ]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"learning": {"every_hours": 1, "effective_after_hours": 33}}, "at most 32 times every_hours"),
        (
            {"task": "multiclass", "classes": ["a", "b", "c"]},
            "only binary models and regressions can learn online",
        ),
    ],
)
def test_declaration_that_cannot_be_learned_is_refused(changes, fault):
    with pytest.raises(ValidationError, match=fault):
        traffic.declaration(**changes)
