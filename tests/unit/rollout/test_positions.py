from services.rollout.positions import Positions
from streams.inputs import BEFORE_ALL_MS, LABEL, PREDICTION, PartitionKey, Resume

PREDICTIONS = [PartitionKey(PREDICTION, number) for number in range(2)]
LABELS = [PartitionKey(LABEL, number) for number in range(2)]


def positions() -> Positions:
    return Positions({key: Resume() for key in (*PREDICTIONS, *LABELS)})


def test_record_is_passed_once() -> None:
    found = positions()
    assert found.pass_record(PREDICTIONS[0], 4, 1000)
    assert not found.pass_record(PREDICTIONS[0], 4, 1000)
    assert found.resume()[PREDICTIONS[0]] == Resume(5, 1000)


def test_latest_request_tells_the_time_whatever_other_partitions_do() -> None:
    found = positions()
    assert found.latest_ms == BEFORE_ALL_MS
    found.pass_record(PREDICTIONS[1], 0, 700)
    found.pass_record(LABELS[1], 0, 9000)
    assert found.latest_ms == 700


def test_labels_are_known_up_to_the_slowest_partition_that_has_any() -> None:
    found = positions()
    assert found.labels_ms == BEFORE_ALL_MS
    found.pass_record(LABELS[0], 0, 900)
    assert found.labels_ms == 900
    found.add_heartbeat(LABELS[1], 0, 500)
    assert found.labels_ms == 500


def test_missing_labels_are_known_up_to_the_slowest_partition_of_all() -> None:
    found = Positions({key: Resume() for key in (*PREDICTIONS, *LABELS)}, all_labels=True)
    found.pass_record(LABELS[0], 0, 900)
    assert found.labels_ms == BEFORE_ALL_MS
    found.add_heartbeat(LABELS[1], 0, 500)
    assert found.labels_ms == 500


def test_time_never_goes_back() -> None:
    found = positions()
    found.pass_record(PREDICTIONS[0], 0, 900)
    found.pass_record(PREDICTIONS[0], 1, 100)
    assert found.resume()[PREDICTIONS[0]] == Resume(2, 900)


def test_rejected_record_is_kept_once_and_moves_no_time() -> None:
    found = positions()
    found.reject(PREDICTIONS[0], 0, None)
    assert found.letters == []
    assert found.latest_ms == BEFORE_ALL_MS


def test_labels_after_the_latest_request_are_ahead() -> None:
    found = positions()
    found.pass_record(LABELS[0], 0, 900)
    found.pass_record(LABELS[1], 0, 400)
    assert found.labels_ahead() == set(LABELS)
    found.pass_record(PREDICTIONS[0], 0, 500)
    assert found.labels_ahead() == {LABELS[0]}


def test_requests_are_read_up_to_the_slowest_partition_that_has_any() -> None:
    found = positions()
    assert found.requests_ms == BEFORE_ALL_MS
    found.pass_record(PREDICTIONS[0], 0, 900)
    assert found.requests_ms == 900
    found.pass_record(PREDICTIONS[1], 0, 600)
    assert found.requests_ms == 600


def test_a_topic_with_records_over_http_alone_takes_its_time_from_them() -> None:
    found = positions()
    found.pass_record(LABELS[0], 0, 5000, is_over_http=True)
    found.pass_record(PREDICTIONS[0], 0, 900, is_over_http=True)
    found.pass_record(PREDICTIONS[1], 0, 700, is_over_http=True)
    assert (found.latest_ms, found.requests_ms) == (900, 700)
    assert found.labels_ms == 900, "labels are not later than the latest request"
    found.pass_record(PREDICTIONS[1], 1, 300)
    found.pass_record(LABELS[1], 0, 200)
    assert (found.latest_ms, found.requests_ms, found.labels_ms) == (300, 300, 200)
