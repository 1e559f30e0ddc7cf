"""When a request for retraining makes a commit due."""

from services.archive import required_offsets
from services.archive.required_offsets import RequiredOffsets, decoded_requests, required_by
from streams import records
from tests.unit.archive.kafka_records import Record

REQUEST = records.RetrainingRequested(
    request_id="r",
    model="m",
    trigger="manual",
    requested_at_ms=0,
    reason="a test",
    offsets={"a": [2, 0], "b": [5]},
)
FINISHED = records.RetrainingFinished(
    request_id="r", model="m", trigger="manual", requested_at_ms=0, result="rejected", version=0
)


def test_a_request_names_the_offset_of_each_partition() -> None:
    assert required_by(REQUEST) == {("a", 0): 2, ("a", 1): 0, ("b", 0): 5}


def test_a_request_is_reached_once_all_its_partitions_are() -> None:
    required = RequiredOffsets()
    required.add(required_by(REQUEST))
    assert not required.remove_reached({("a", 0): 1, ("b", 0): 5})
    assert not required.remove_reached({("a", 0): 2, ("b", 0): 4})
    assert required.remove_reached({("a", 0): 2, ("b", 0): 5})


def test_a_reached_request_is_reported_once() -> None:
    required = RequiredOffsets()
    required.add({("a", 0): 2})
    required.add({("a", 0): 9})
    assert required.remove_reached({("a", 0): 2})
    assert not required.remove_reached({("a", 0): 8})
    assert required.remove_reached({("a", 0): 9})


def test_partitions_of_other_members_are_ignored() -> None:
    required = RequiredOffsets()
    required.add({("a", 0): 2, ("elsewhere", 0): 100})
    assert required.remove_reached({("a", 0): 2})


def test_only_requests_are_decoded_and_bad_records_are_skipped() -> None:
    batch = [
        Record(0, records.encode(REQUEST)),
        Record(1, records.encode(FINISHED)),
        Record(2, b"{"),
        Record(3, None),
    ]
    assert list(decoded_requests(batch)) == [REQUEST]


def test_requests_that_are_never_reached_are_bounded() -> None:
    required = RequiredOffsets()
    for number in range(3 * required_offsets.OPEN_MAX):
        required.add({("a", 0): 2**62 + number})
    required.add({("a", 0): 2})
    assert required.remove_reached({("a", 0): 2})
    assert len(required._open) == required_offsets.OPEN_MAX - 1
