import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import TopicPartition

from services.operations.dead_letters import letters
from services.operations.dead_letters import replay as module
from services.operations.dead_letters.letters import LetterFilter
from services.operations.dead_letters.replay import SETTLE_MS, ReplayResult, replay
from services.operations.dead_letters.topic_reader import LETTERS, LettersError
from services.runtime.settings import Settings
from streams import codec, records
from tests.unit.operations.dead_letters.memory_kafka import MemoryKafka

NOW_MS = 1_700_000_000_000
SOURCE = TopicPartition("orders", 1)


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> MemoryKafka:
    """A broker with the topic of the failed records and that of the letters."""
    kafka = MemoryKafka(**{"orders": 2, LETTERS.topic: 1})

    @contextlib.asynccontextmanager
    async def connected(_: Settings) -> AsyncIterator[MemoryKafka]:
        yield kafka

    monkeypatch.setattr(module, "reader", connected)
    monkeypatch.setattr(module, "BatchProducer", lambda _, compression: kafka)
    monkeypatch.setattr(module, "now_ms", lambda: NOW_MS)
    return kafka


def letter(offset: int, **changes: Any) -> records.DeadLetter:
    given: dict[str, Any] = {"service": "scoring", "reason": "bad", "topic": SOURCE.topic, "key": b"k"}
    given |= {"partition": SOURCE.partition, "offset": offset, "value": b"v%d" % offset}
    return records.DeadLetter(**({"failed_time_ms": NOW_MS} | given | changes))


def fail(kafka: MemoryKafka, *failed: records.DeadLetter) -> None:
    kafka.write(LETTERS, *((each.topic.encode(), records.encode(each), []) for each in failed))


def mark(kafka: MemoryKafka, *offsets: int, **changes: Any) -> None:
    given: dict[str, Any] = {"state": "begun", "topic": SOURCE.topic, "partition": SOURCE.partition}
    given |= {"offsets": list(offsets), "begun_ms": NOW_MS - SETTLE_MS, "end_offset": 0}
    header = (codec.REPLAY_MARK_HEADER, records.encode(records.ReplayMark(**(given | changes))))
    kafka.write(LETTERS, (b"orders", None, [header]))


def run(chosen: LetterFilter | None = None, **options: Any) -> ReplayResult:
    settings = Settings(_env_file=None)
    return asyncio.run(replay(settings, chosen or LetterFilter(), **({"dry": False} | options)))


def replayed(kafka: MemoryKafka) -> list[int]:
    """Return the former offsets of the replayed records, in the order of their arrival."""
    sources = [letters.replayed_from(record.headers) for record in kafka.logs[SOURCE]]
    return [source[2] for source in sources if source is not None]


def states(kafka: MemoryKafka) -> list[tuple[str, list[int]]]:
    """Return state and offsets of each mark."""
    found = []
    for record in kafka.logs[LETTERS]:
        for name, value in record.headers:
            if name == codec.REPLAY_MARK_HEADER:
                each = records.decoder_of(records.ReplayMark).decode(value)
                found.append((each.state, each.offsets))
    return found


def test_each_failed_record_is_written_once_between_two_marks(kafka: MemoryKafka) -> None:
    """Two processes may fail on one record."""
    fail(kafka, letter(3), letter(5), letter(3, service="features"))
    result = run()
    assert result.replayed == {"orders/1": 2}
    assert result.left == {"replayed already": 1}
    assert replayed(kafka) == [3, 5]
    assert states(kafka) == [("begun", [3, 5]), ("arrived", [3, 5])]


def test_a_second_replay_writes_nothing_whatever_its_filter(kafka: MemoryKafka) -> None:
    fail(kafka, letter(3), letter(5))
    run(records_max=1)
    assert run(LetterFilter(service="scoring")).replayed == {"orders/1": 1}
    assert run().replayed == {}
    assert run().left == {"replayed already": 2}
    assert replayed(kafka) == [3, 5]


def test_only_selected_letters_are_written(kafka: MemoryKafka) -> None:
    fail(kafka, letter(1), letter(2, service="features"), letter(3, failed_time_ms=5))
    assert run(LetterFilter(service="features")).replayed == {"orders/1": 1}
    assert replayed(kafka) == [2]


def test_a_dry_run_counts_and_writes_nothing(kafka: MemoryKafka) -> None:
    fail(kafka, letter(3), letter(4))
    assert run(dry=True).replayed == {"orders/1": 2}
    assert replayed(kafka) == []
    assert states(kafka) == []


def test_a_record_that_came_back_too_often_is_left_unless_asked_for(kafka: MemoryKafka) -> None:
    count = (codec.REPLAYS_HEADER, b"%d" % letters.REPLAYS_MAX)
    fail(kafka, letter(3, headers=[count]))
    assert run().left == {"came back 3 times (--again includes them)": 1}
    assert run(again=True).replayed == {"orders/1": 1}


@pytest.mark.parametrize("place", [{"topic": "gone"}, {"partition": 2}])
def test_a_letter_whose_partition_is_gone_is_left(kafka: MemoryKafka, place: dict[str, Any]) -> None:
    fail(kafka, letter(3, **place))
    assert run().left == {"the topic or its partition does not exist": 1}


def test_a_replay_at_work_is_not_disturbed(kafka: MemoryKafka) -> None:
    fail(kafka, letter(3))
    mark(kafka, 3, begun_ms=NOW_MS - SETTLE_MS + 1500)
    with pytest.raises(LettersError, match="another replay is running or has just crashed: try again in 2 s"):
        run()
    assert replayed(kafka) == []


def test_a_crashed_replay_is_settled_by_what_arrived(kafka: MemoryKafka) -> None:
    """The search begins at the end that the mark names: the record before it is an older replay."""
    fail(kafka, letter(3), letter(4))
    kafka.write(SOURCE, letters.record_of(letter(3)))
    mark(kafka, 3, 4, end_offset=1)
    kafka.write(SOURCE, letters.record_of(letter(4)))
    assert run().replayed == {"orders/1": 1}
    assert states(kafka)[1:3] == [("lost", [3]), ("arrived", [4])]
    assert replayed(kafka) == [3, 4, 3]


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_a_crash_after_any_write_repeats_no_record(
    kafka: MemoryKafka, writes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writes are the first mark, the records, and the second mark."""
    fail(kafka, letter(3), letter(5))
    kafka.writes_max = writes
    with pytest.raises(ConnectionError):
        run()
    kafka.writes_max = None
    monkeypatch.setattr(module, "now_ms", lambda: NOW_MS + SETTLE_MS)
    run()
    assert replayed(kafka) == [3, 5]


def test_a_cut_letter_stays_and_the_place_of_its_record_is_named(kafka: MemoryKafka) -> None:
    fail(kafka, letter(3, cut_from_bytes=9_000_000), letter(4))
    result = run()
    assert replayed(kafka) == [4]
    assert result.left == {"cut, as it was too large for a letter: the complete record is orders/1/3": 1}


def test_a_record_that_its_topic_does_not_take_is_left_and_the_others_are_written(kafka: MemoryKafka) -> None:
    large = b"x" * 600_000
    fail(kafka, letter(3), letter(4, value=large), letter(5, value=large), letter(6))
    kafka.bytes_max = 500_000
    result = run()
    assert replayed(kafka) == [3, 6]
    assert states(kafka) == [("begun", [3, 4, 5, 6]), ("arrived", [3, 6]), ("lost", [4, 5])]
    assert result.left == {"larger than orders takes: raise its max.message.bytes": 2}
    kafka.bytes_max = None
    run()
    assert replayed(kafka) == [3, 6, 4, 5]
