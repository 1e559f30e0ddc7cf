"""What waits after a rebuild from the topics is what waited when the snapshot was taken."""

import hypothesis.strategies as st
import msgspec
from hypothesis import given

from services.learning.learner_state import LearnerState
from services.monitoring.label_join import JoinTotals, LabelJoin
from services.monitoring.pending_predictions import PendingPrediction, PendingPredictions
from services.monitoring.pending_rebuild import PendingMark, PendingRebuild, RebuildPoint, with_point
from services.monitoring.waiting_labels import WAIT_MS
from streams import records
from streams.inputs import BEFORE_ALL_MS, LABEL, PREDICTION, Inputs, PartitionKey, Resume, by_partition
from streams.repeats import RepeatFilter
from tests.unit.drift import scenario
from tests.unit.drift.scenario import HOUR_MS, START_MS

HORIZON_MS = 5 * HOUR_MS
PARTITIONS = 2
EVENTS = st.lists(
    st.tuples(
        st.sampled_from([PREDICTION, LABEL]),
        st.integers(0, PARTITIONS - 1),
        st.integers(0, 15).map("p{}".format),
        st.integers(0, 9 * HOUR_MS // 1000),
    ),
    max_size=60,
)


class Topics:
    """Two partitions of predictions and two of labels, in the order in which they were written."""

    def __init__(self, events: list[tuple[int, int, str, int]]) -> None:
        self.records: list[tuple[PartitionKey, int, records.Prediction | records.Label]] = []
        ends: dict[PartitionKey, int] = {}
        for kind, partition, identity, seconds in events:
            key = PartitionKey(kind, partition)
            offset = ends[key] = ends.get(key, -1) + 1
            time_ms = START_MS + 1000 * seconds
            made = (
                scenario.prediction(0, time_ms, source_partition=partition, source_offset=offset)
                if kind == PREDICTION
                else scenario.label(0, time_ms, float(seconds % 2), offset=offset)
            )
            self.records.append((key, offset, msgspec.structs.replace(made, prediction_id=identity)))


def joined(pending: PendingPredictions, absent: float | None) -> LabelJoin:
    """Return a join in which predictions wait for `HORIZON_MS`; with a label if absent, two horizons."""
    if absent is None:
        return LabelJoin(HORIZON_MS, JoinTotals(), pending)
    return LabelJoin(HORIZON_MS // 2, JoinTotals(), pending, absent=absent)


class Joined:
    """The ordinary way: records in the order of the topics, and snapshots on the way."""

    def __init__(self, absent: float | None = None) -> None:
        keys = [PartitionKey(kind, number) for kind in (PREDICTION, LABEL) for number in range(PARTITIONS)]
        self.inputs = Inputs({key: Resume() for key in keys})
        self.repeats = RepeatFilter()
        self.pending = PendingPredictions()
        self.absent = absent
        self.join = joined(self.pending, absent)
        self.evicted_ms = BEFORE_ALL_MS

    def read(self, key: PartitionKey, offset: int, record: records.Prediction | records.Label) -> None:
        self.inputs.add(key, offset, record.event_time_ms, record.prediction_id, record)
        for item in self.inputs.take():
            if item.kind == LABEL:
                self.join.add_label(item.record, item.counts_at_ms)
            elif not self.repeats.is_repeat(item.record.source_partition, item.record.source_offset):
                entry = self.join.add_prediction(item.record, item.counts_at_ms)
                if entry is not None:
                    self.join.take_waiting(entry)
        if self.inputs.frontier_ms > BEFORE_ALL_MS:
            self.evicted_ms = self.inputs.frontier_ms // HOUR_MS * HOUR_MS
            list(self.join.settle(self.evicted_ms))
            self.join.evict(self.evicted_ms)

    def point(self) -> RebuildPoint:
        resume = self.inputs.resume()
        return RebuildPoint(
            self.inputs.frontier_ms,
            [resume[PartitionKey(PREDICTION, number)] for number in range(PARTITIONS)],
            [resume[PartitionKey(LABEL, number)] for number in range(PARTITIONS)],
            dict(self.repeats.last_offsets),
        )


def rebuilt(
    topics: Topics, point: RebuildPoint, snapshot: Joined, newest: list[PendingPrediction]
) -> list[PendingPrediction]:
    stop = {key: at.offset for key, at in snapshot.inputs.resume().items()}
    join = joined(PendingPredictions(), snapshot.absent)
    rebuild = PendingRebuild(join, point, stop)
    for key, offset, record in topics.records:
        if isinstance(record, records.Prediction):
            rebuild.add_prediction(key.partition, offset, record)
        else:
            rebuild.add_label(key.partition, offset, record)
        rebuild.advance()
    rebuild.finish(newest, snapshot.evicted_ms)
    return join.pending.settle()[0]


@given(EVENTS, st.integers(0, 60), st.integers(0, 5), st.sampled_from([None, 0.0, 1.0]))
def test_rebuild_restores_what_the_snapshot_left_on_disk(
    events: list[tuple[int, int, str, int]], snapshot_after: int, in_snapshot: int, absent: float | None
) -> None:
    topics, live = Topics(events), Joined(absent)
    points: list[RebuildPoint] = with_point([], live.point(), live.evicted_ms, HORIZON_MS)
    for number, record in enumerate(topics.records[:snapshot_after]):
        live.read(*record)
        if number % 3 == 0:
            points = with_point(points, live.point(), live.evicted_ms, HORIZON_MS)
    waiting = live.pending.settle()[0]
    cut = max(0, len(waiting) - in_snapshot)
    assert rebuilt(topics, points[0], live, newest=waiting[cut:]) == waiting[:cut]


def restarted(live: Joined, *kinds: str) -> LearnerState:
    """Return a state that continues at the start of topics that were recreated."""
    point = live.point()
    bound_ms = min(at.bound_ms for at in (*point.predictions, *point.labels))
    starts = [Resume(0, bound_ms)] * PARTITIONS
    predictions = starts if "predictions" in kinds else point.predictions
    labels = starts if "labels" in kinds else point.labels
    return LearnerState(predictions=predictions, labels=labels, last_offsets=point.last_offsets)


@given(EVENTS, EVENTS)
def test_after_another_label_topic_the_same_predictions_are_rebuilt(
    events: list[tuple[int, int, str, int]], later: list[tuple[int, int, str, int]]
) -> None:
    """Labels of the old topic cannot be read again; those of the new one are read from its start."""
    topics, live = Topics(events), Joined()
    mark = PendingMark("disk", 1)
    for number, record in enumerate(topics.records):
        if number % 3 == 0:
            mark.note("disk", 1, live.point(), live.evicted_ms, HORIZON_MS)
        live.read(*record)
    mark.note("disk", 1, live.point(), live.evicted_ms, HORIZON_MS)
    now = restarted(live, "labels")
    mark.restart(["labels"], now)
    live.inputs = Inputs(by_partition(now.predictions, now.labels))
    predictions = [each for each in topics.records if each[0].kind == PREDICTION]
    new = Topics([(LABEL, *each[1:]) for each in later])
    for record in new.records:
        live.read(*record)
    topics.records = [*predictions, *new.records]
    found = rebuilt(topics, mark.points[0], live, newest=[])
    assert [each.prediction_id for each in found] == [each.prediction_id for each in live.pending.settle()[0]]


def test_after_another_predictions_topic_a_rebuild_reads_only_the_new_one() -> None:
    live = Joined()
    mark = PendingMark("disk", 1, [RebuildPoint(START_MS, [Resume(7)], [Resume(9)], {0: 7})])
    now = restarted(live, "predictions")
    mark.restart(["predictions", "labels"], now)
    assert mark.points == [RebuildPoint(BEFORE_ALL_MS, now.predictions, now.labels, {})]


def test_points_span_two_horizons_and_not_more() -> None:
    """The predictions that wait, and those that had the same ids before them."""
    points: list[RebuildPoint] = []
    for hour in range(100):
        frontier_ms = START_MS + hour * HOUR_MS
        points = with_point(points, RebuildPoint(frontier_ms, [], [], {}), frontier_ms, 24 * HOUR_MS)
        assert points[0].frontier_ms <= max(START_MS, frontier_ms - 48 * HOUR_MS - WAIT_MS)
        assert len(points) <= 51
    assert points[0].frontier_ms >= START_MS + (99 - 50) * HOUR_MS


def test_a_point_is_complete_when_every_partition_has_been_read() -> None:
    point = RebuildPoint(0, [Resume(), Resume()], [Resume()], {})
    stop = {PartitionKey(PREDICTION, 0): 4, PartitionKey(LABEL, 0): 2}
    rebuild = PendingRebuild(LabelJoin(HORIZON_MS, JoinTotals(), PendingPredictions()), point, stop)
    assert not rebuild.is_complete({PartitionKey(PREDICTION, 0): 4, PartitionKey(LABEL, 0): 1})
    assert rebuild.is_complete({PartitionKey(PREDICTION, 0): 5, PartitionKey(LABEL, 0): 2})
