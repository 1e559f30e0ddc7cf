"""The common order of all partitions."""

from streams import records
from streams.inputs import LABEL, PREDICTION, Inputs, PartitionKey, Resume

FIRST, SECOND, LABELS = PartitionKey(PREDICTION, 0), PartitionKey(PREDICTION, 1), PartitionKey(LABEL, 0)


def inputs(*places):
    return Inputs(dict.fromkeys(places or (FIRST, SECOND, LABELS), Resume()))


def taken(subject):
    return [(item.counts_at_ms, item.kind, item.id) for item in subject.take()]


def letter():
    return records.DeadLetter(
        service="s", reason="r", topic="t", partition=0, offset=0, key=None, value=None, failed_time_ms=0
    )


def test_records_come_in_the_order_of_time_then_kind_then_id():
    subject = inputs()
    subject.add(LABELS, 0, 10, "a", None)
    subject.add(SECOND, 0, 10, "c", None)
    subject.add(FIRST, 0, 10, "b", None)
    subject.add(FIRST, 1, 20, "x", None)
    subject.add_heartbeat(SECOND, 1, 30)
    subject.add_heartbeat(LABELS, 1, 30)
    assert taken(subject) == [(10, PREDICTION, "b"), (10, PREDICTION, "c"), (10, LABEL, "a")]


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
    assert resume == {FIRST: Resume(1, 20), LABELS: Resume(1, 15)}
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
