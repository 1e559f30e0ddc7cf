"""The common order of all partitions."""

import pytest

from streams import records
from streams.inputs import LABEL, PREDICTION, Inputs, PartitionKey, Resume, by_partition, in_order

FIRST, SECOND, LABELS = PartitionKey(PREDICTION, 0), PartitionKey(PREDICTION, 1), PartitionKey(LABEL, 0)


def inputs(*places):
    return Inputs(dict.fromkeys(places or (FIRST, SECOND, LABELS), Resume()))


def taken(subject):
    return [(item.counts_at_ms, item.kind, item.id) for item in subject.take()]


def letter():
    return records.DeadLetter(
        service="s", reason="r", topic="t", partition=0, offset=0, key=None, value=None, failed_time_ms=0
    )


def test_records_come_in_the_order_of_time_then_kind_then_partition():
    subject = inputs()
    subject.add(LABELS, 0, 10, "a", None)
    subject.add(SECOND, 0, 10, "c", None)
    subject.add(FIRST, 0, 10, "b", None)
    subject.add(FIRST, 1, 20, "x", None)
    subject.add_heartbeat(SECOND, 1, 30)
    subject.add_heartbeat(LABELS, 1, 30)
    assert taken(subject) == [(10, PREDICTION, "b"), (10, PREDICTION, "c"), (10, LABEL, "a")]


def test_records_of_one_partition_and_time_keep_the_order_of_their_offsets():
    """Consumers take an offset below the last one for a repeat."""
    subject = inputs(FIRST)
    for offset, identity in enumerate("zmac"):
        subject.add(FIRST, offset, 10, identity, None)
    subject.add_heartbeat(FIRST, 9, 10)
    assert [identity for *_, identity in taken(subject)] == ["z", "m", "a", "c"]


def test_a_record_promises_less_than_a_heartbeat_of_the_same_time():
    """Another record may have the same event time; after a heartbeat none has."""
    subject = inputs(FIRST)
    subject.add(FIRST, 0, 10, "a", None)
    assert subject.take() == []
    subject.add_heartbeat(FIRST, 1, 10)
    assert subject.frontier_ms == 11
    assert taken(subject) == [(10, PREDICTION, "a")]


def test_a_record_behind_its_partitions_promise_counts_at_the_promise():
    subject = inputs(FIRST)
    subject.add_heartbeat(FIRST, 0, 50)
    subject.add(FIRST, 1, 10, "late", None)
    subject.add_heartbeat(FIRST, 2, 90)
    assert taken(subject) == [(51, PREDICTION, "late")]


def test_a_partition_that_was_never_heard_of_holds_everything_back():
    subject = inputs()
    subject.add_heartbeat(FIRST, 0, 99)
    subject.add_heartbeat(SECOND, 0, 99)
    subject.add(FIRST, 1, 100, "a", None)
    assert subject.take() == []


def test_offsets_that_were_read_before_are_ignored():
    subject = inputs(FIRST)
    subject.add(FIRST, 5, 10, "a", None)
    subject.add(FIRST, 5, 10, "a", None)
    subject.add(FIRST, 4, 10, "b", None)
    subject.add_heartbeat(FIRST, 3, 10**6)
    subject.reject(FIRST, 2, letter())
    subject.add_heartbeat(FIRST, 6, 20)
    assert taken(subject) == [(10, PREDICTION, "a")]
    assert subject.frontier_ms == 21


def test_restart_reads_again_what_was_waiting_and_nothing_that_was_taken():
    subject = inputs(FIRST, LABELS)
    subject.add(FIRST, 0, 10, "a", None)
    subject.add(FIRST, 1, 20, "b", None)
    subject.add(FIRST, 2, 15, "out of order", None)
    subject.add_heartbeat(LABELS, 0, 14)
    assert taken(subject) == [(10, PREDICTION, "a")]
    resume = subject.resume()
    assert resume == {FIRST: Resume(1, 20), LABELS: Resume(1, 15, 2**62)}
    again = Inputs(resume)
    again.add(FIRST, 1, 20, "b", None)
    again.add(FIRST, 2, 15, "out of order", None)
    again.add_heartbeat(FIRST, 3, 30)
    again.add_heartbeat(LABELS, 1, 30)
    assert taken(again) == [(20, PREDICTION, "b"), (20, PREDICTION, "out of order")]


def test_partitions_far_ahead_are_named_and_the_one_that_holds_the_frontier_never():
    subject = inputs(FIRST, SECOND)
    for offset in range(10):
        subject.add(FIRST, offset, 100 + offset, str(offset), None)
        subject.add(SECOND, offset, 50, str(offset), None)
    assert subject.ahead(5) == {FIRST}
    assert subject.ahead(10) == set()


WALL_MS = 1_700_000_000_000
REPLAY_MS = 1_365_000_000_000
DAY_MS = 86_400_000


def answer(time_ms, scored_ms, *, http=False):
    """A prediction as scoring writes it."""
    offset = records.ASKED_OVER_HTTP if http else 0
    return records.Prediction(
        prediction_id=f"{'http' if http else 'kafka'}-{time_ms}",
        model="m",
        version=1,
        arm="champion",
        arm_weight=10_000,
        event_time_ms=time_ms,
        scored_time_ms=scored_ms,
        source_partition=offset,
        source_offset=offset,
        features=[],
        features_lag_ms=0,
        score=0.5,
        prediction=1,
    )


def test_answer_over_http_ahead_of_a_replay_counts_at_the_bound_and_moves_nothing():
    """Somebody tries the API with a time of December, or of today, while Kafka replays April."""
    subject = inputs(FIRST)
    subject.add_prediction(0, 0, answer(REPLAY_MS, WALL_MS))
    for offset, time_ms in ((1, REPLAY_MS + 240 * DAY_MS), (2, WALL_MS)):
        subject.add_prediction(0, offset, answer(time_ms, WALL_MS + offset, http=True))
    subject.add_prediction(0, 3, answer(REPLAY_MS + 5_000, WALL_MS + 3))
    subject.add_heartbeat(FIRST, 4, REPLAY_MS + 6_000)
    assert [item.counts_at_ms - REPLAY_MS for item in subject.take()] == [0, 0, 0, 5_000]
    assert subject.frontier_ms == REPLAY_MS + 6_001


def test_answers_over_http_move_the_time_of_live_traffic_and_of_a_model_without_kafka():
    for first in ((), (answer(WALL_MS, WALL_MS + 900),)):
        subject = inputs(FIRST)
        for offset, prediction in enumerate((*first, answer(WALL_MS + 60_000, WALL_MS + 60_001, http=True))):
            subject.add_prediction(0, offset, prediction)
        assert subject.frontier_ms == WALL_MS + 60_000


def test_heartbeats_alone_tell_the_time_of_a_stream():
    subject = inputs(FIRST)
    subject.add_heartbeat(FIRST, 0, REPLAY_MS)
    subject.add_prediction(0, 1, answer(WALL_MS, WALL_MS, http=True))
    assert subject.frontier_ms == REPLAY_MS + 1


def test_restart_judges_answers_over_http_as_before():
    """The wall time of the first replayed record is known again, although it is not read again."""
    stream = [
        answer(REPLAY_MS, WALL_MS),
        answer(WALL_MS, WALL_MS, http=True),
        answer(REPLAY_MS + 10, WALL_MS + 1),
        answer(WALL_MS, WALL_MS + 2, http=True),
        answer(REPLAY_MS + 20, WALL_MS + 3),
    ]
    for stop in range(len(stream)):
        subject = inputs(FIRST, LABELS)
        subject.add_heartbeat(LABELS, 0, REPLAY_MS + 5)
        for offset, prediction in enumerate(stream[:stop]):
            subject.add_prediction(0, offset, prediction)
        done = subject.take()
        resume = subject.resume()
        again = Inputs(resume)
        for offset, prediction in enumerate(stream):
            if offset >= resume[FIRST].offset:
                again.add_prediction(0, offset, prediction)
        items = [*done, *again.take_all()]
        assert [item.counts_at_ms - REPLAY_MS for item in items] == [0, 0, 10, 10, 20]


def test_values_by_partition_are_in_the_order_of_their_partitions_again():
    by_key = by_partition(["p0", "p1"], ["l0"])
    assert by_key == {
        PartitionKey(PREDICTION, 0): "p0",
        PartitionKey(PREDICTION, 1): "p1",
        PartitionKey(LABEL, 0): "l0",
    }
    assert in_order(dict(reversed(by_key.items()))) == (["p0", "p1"], ["l0"])


def label(time_ms, written_ms, *, http=False):
    return records.Label(
        prediction_id=f"{'http' if http else 'kafka'}-{time_ms}",
        event_time_ms=time_ms,
        value=1.0,
        source_partition=0,
        source_offset=0,
        written_time_ms=written_ms,
        is_over_http=http,
    )


def test_label_over_http_ahead_of_a_replay_counts_at_the_bound_and_moves_nothing():
    subject = inputs(LABELS)
    subject.add_label(0, 0, label(REPLAY_MS, WALL_MS))
    for offset, time_ms in ((1, REPLAY_MS + 240 * DAY_MS), (2, WALL_MS)):
        subject.add_label(0, offset, label(time_ms, WALL_MS + offset, http=True))
    subject.add_label(0, 3, label(REPLAY_MS + 5_000, WALL_MS + 3))
    assert subject.frontier_ms == REPLAY_MS + 5_000
    assert [item.counts_at_ms - REPLAY_MS for item in subject.take_all()] == [0, 0, 0, 5_000]


def test_labels_over_http_move_the_time_of_live_traffic_and_of_a_topic_without_others():
    for first in ((), (label(WALL_MS, WALL_MS + 900),)):
        subject = inputs(LABELS)
        for offset, each in enumerate((*first, label(WALL_MS + 60_000, WALL_MS + 60_001, http=True))):
            subject.add_label(0, offset, each)
        assert subject.frontier_ms == WALL_MS + 60_000


def test_restart_judges_labels_over_http_as_before():
    stream = [
        label(REPLAY_MS, WALL_MS),
        label(WALL_MS, WALL_MS, http=True),
        label(REPLAY_MS + 10, WALL_MS + 1),
        label(WALL_MS, WALL_MS + 2, http=True),
        label(REPLAY_MS + 20, WALL_MS + 3),
    ]
    for stop in range(len(stream)):
        subject = inputs(FIRST, LABELS)
        subject.add_heartbeat(FIRST, 0, REPLAY_MS + 5)
        for offset, each in enumerate(stream[:stop]):
            subject.add_label(0, offset, each)
        done = subject.take()
        resume = subject.resume()
        again = Inputs(resume)
        for offset, each in enumerate(stream):
            if offset >= resume[LABELS].offset:
                again.add_label(0, offset, each)
        items = [*done, *again.take_all()]
        assert [item.counts_at_ms - REPLAY_MS for item in items] == [0, 0, 10, 10, 20]


def add_to(subject, source, offset, each):
    add = subject.add_prediction if source.kind == PREDICTION else subject.add_label
    add(source.partition, offset, each)


@pytest.mark.parametrize(("source", "other", "made"), [(FIRST, LABELS, answer), (LABELS, FIRST, label)])
@pytest.mark.parametrize("is_restarted", [False, True])
def test_record_over_http_that_is_the_first_of_its_partition_does_not_move_it_for_the_stream(
    source, other, made, is_restarted
):
    subject = inputs(source, other)
    subject.add_heartbeat(other, 0, REPLAY_MS)
    add_to(subject, source, 0, made(WALL_MS, WALL_MS, http=True))
    stream = [made(REPLAY_MS + 5_000, WALL_MS + 1), made(REPLAY_MS + 6_000, WALL_MS + 2)]
    if is_restarted:
        resume = subject.resume()
        subject = Inputs(resume)
        add_to(subject, source, resume[source].offset, made(WALL_MS, WALL_MS, http=True))
    for offset, each in enumerate(stream, 1):
        add_to(subject, source, offset, each)
    assert [item.counts_at_ms - REPLAY_MS for item in subject.take_all()] == [5_000, 5_000, 6_000]


def test_heartbeat_after_records_over_http_tells_the_time_of_the_stream():
    subject = inputs(FIRST, LABELS)
    subject.add_heartbeat(FIRST, 0, REPLAY_MS)
    subject.add_label(0, 0, label(WALL_MS, WALL_MS, http=True))
    subject.add_heartbeat(LABELS, 1, REPLAY_MS + 4_999)
    subject.add_label(0, 2, label(REPLAY_MS + 6_000, WALL_MS + 1))
    assert [item.counts_at_ms - REPLAY_MS for item in subject.take_all()] == [5_000, 6_000]


def test_label_without_a_wall_time_is_not_lowered_by_an_earlier_heartbeat():
    """Of a heartbeat that is out of order, or after another reading of the other partitions."""
    subject = inputs(FIRST, LABELS)
    subject.add_heartbeat(FIRST, 0, REPLAY_MS)
    subject.add_label(0, 0, label(WALL_MS, None))
    subject.add_heartbeat(LABELS, 1, REPLAY_MS + 4_999)
    subject.add_label(0, 2, label(WALL_MS, None))
    assert [item.counts_at_ms for item in subject.take_all()] == [WALL_MS, WALL_MS]


def test_time_of_records_over_http_is_kept_as_far_as_it_was_the_frontier():
    subject = inputs(FIRST, LABELS)
    subject.add_label(0, 0, label(WALL_MS, WALL_MS, http=True))
    subject.add_heartbeat(FIRST, 0, REPLAY_MS + 9_999)
    assert subject.take() == []
    subject.add_label(0, 1, label(REPLAY_MS + 5_000, WALL_MS + 1))
    assert subject.frontier_ms == REPLAY_MS + 10_000


def test_live_records_after_one_over_http_do_not_move_the_time_back():
    subject = inputs(FIRST, LABELS)
    subject.add_heartbeat(FIRST, 0, WALL_MS - 60_000)
    subject.add_label(0, 0, label(WALL_MS, WALL_MS, http=True))
    subject.add_label(0, 1, label(WALL_MS - 1_000, WALL_MS + 1))
    assert [item.counts_at_ms - WALL_MS for item in subject.take_all()] == [0, 0]
