"""Dead letters are listed and written back, on a real broker."""

import asyncio
import json
import time
from typing import Any

import pytest

from services.operations.dead_letters import command, letters
from services.operations.dead_letters.letters import LetterFilter
from services.operations.dead_letters.replay import SETTLE_MS, ReplayResult, replay
from services.operations.dead_letters.topic_reader import LettersError
from services.runtime.settings import Settings
from services.runtime.topic_creation import ensure_topics
from streams import codec, records, topics
from streams.producer import BatchProducer, Record

PARTITION = 1
WRONG, RIGHT = b'{"wrong": ', b'{"right": 1}'


@pytest.fixture
def local(kafka: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("DRIFTLINE_BROKER", kafka)
    return Settings(partitions=2)


@pytest.fixture
def source(local: Settings, unique_name: str) -> str:
    """A topic of an application, whose records failed."""
    ensure_topics(local, {}, applications=[unique_name])
    return unique_name


def failed(source: str, offset: int, **changes: Any) -> records.DeadLetter:
    given: dict[str, Any] = {"service": "scoring", "reason": "bad", "key": b"k%d" % offset, "value": WRONG}
    given |= {"topic": source, "partition": PARTITION, "offset": offset}
    return records.DeadLetter(**({"failed_time_ms": time.time_ns() // 1_000_000} | given | changes))


def write_letters(local: Settings, *written: records.DeadLetter) -> None:
    batch: list[Record] = [(letter.topic.encode(), records.encode(letter), []) for letter in written]
    write(local, topics.DEAD_LETTERS.name, 0, batch)


def write(local: Settings, topic: str, partition: int, batch: list[Record]) -> None:
    async def send() -> None:
        producer = BatchProducer(local.kafka_options())
        await producer.start()
        await producer.send(topic, partition, batch)
        await producer.stop()

    asyncio.run(send())


def read(local: Settings, topic: str) -> list[Any]:
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(**local.kafka_options(), auto_offset_reset="earliest")
    places = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
    consumer.assign(places)
    ends, found = consumer.end_offsets(places), []
    while any(consumer.position(place) < end for place, end in ends.items()):
        found += [record for piece in consumer.poll(200).values() for record in piece]
    consumer.close()
    return found


def run(local: Settings, source: str, **options: Any) -> ReplayResult:
    return asyncio.run(replay(local, LetterFilter(topic=source), **({"dry": False} | options)))


def places(local: Settings, source: str) -> list[tuple[int, int]]:
    """Return partition and first offset of each replayed record, in the order of their arrival."""
    return [
        (record.partition, origin[2])
        for record in read(local, source)
        if (origin := letters.replayed_from(record.headers)) is not None
    ]


def test_letters_go_back_to_their_partition_once_whatever_the_filters(local: Settings, source: str):
    """Twice the same letter, as after a crash of its writer, is one record; a second replay writes none."""
    first, second, third = (failed(source, offset) for offset in (3, 4, 8))
    write_letters(local, first, second, failed(source, 3, service="features"), third)
    assert run(local, source, records_max=1).replayed.total() == 1
    account = run(local, source)
    assert account.replayed == {f"{source}/{PARTITION}": 2}
    assert account.left == {"replayed already": 2}
    assert run(local, source).replayed.total() == 0
    assert places(local, source) == [(PARTITION, 3), (PARTITION, 4), (PARTITION, 8)]
    record = read(local, source)[0]
    assert (record.key, record.value) == (b"k3", WRONG)
    assert (codec.REPLAYED_FROM_HEADER, f"{source}/{PARTITION}/3".encode()) in record.headers


def test_dry_run_counts_and_writes_nothing(local: Settings, source: str):
    """Neither a record nor a mark."""
    write_letters(local, failed(source, 3))
    before = len(read(local, topics.DEAD_LETTERS.name))
    assert run(local, source, dry=True).replayed.total() == 1
    assert len(read(local, topics.DEAD_LETTERS.name)) == before
    assert places(local, source) == []


def test_record_that_came_back_three_times_stays_unless_asked_for(local: Settings, source: str):
    """Each failure of a replayed record is a new letter that carries the count on."""
    write(local, source, PARTITION, [(b"k0", WRONG, [])])
    write_letters(local, failed(source, 0))
    for turn in range(1, letters.REPLAYS_MAX + 1):
        assert run(local, source).replayed.total() == 1
        record = read(local, source)[-1]
        assert letters.replays_of(record.headers) == turn
        write_letters(local, codec.dead_letter("scoring", record, "bad"))
    account = run(local, source)
    assert account.replayed.total() == 0
    assert [reason for reason in account.left if "3 times" in reason]
    assert run(local, source, again=True).replayed.total() == 1


def test_letters_of_a_topic_that_is_gone_are_left(local: Settings, source: str):
    """Nor is a topic created by looking for it."""
    write_letters(local, failed(f"{source}.gone", 0), failed(f"{source}.gone", 1))
    account = run(local, f"{source}.gone")
    assert account.left == {"the topic or its partition does not exist": 2}


def test_replay_that_crashed_is_settled_by_what_arrived(local: Settings, source: str):
    """Of two letters that were begun long ago, one is in its partition: only the other is written."""
    written = [failed(source, 3), failed(source, 4)]
    write_letters(local, *written)
    write(local, source, PARTITION, [(b"k", RIGHT, [])])
    write_mark(local, source, [3, 4], begun_ms=time.time_ns() // 1_000_000 - SETTLE_MS, end_offset=1)
    write(local, source, PARTITION, [letters.record_of(written[1])])
    account = run(local, source)
    assert account.replayed.total() == 1
    assert places(local, source) == [(PARTITION, 4), (PARTITION, 3)]
    assert run(local, source).replayed.total() == 0


def test_second_replay_refuses_while_one_is_at_work(local: Settings, source: str):
    """What it has begun may still arrive."""
    write_letters(local, failed(source, 3))
    mark = write_mark(local, source, [3], begun_ms=time.time_ns() // 1_000_000, end_offset=0)
    try:
        with pytest.raises(LettersError, match="another replay"):
            run(local, source)
    finally:  # the topic is shared with the other tests
        write_mark(local, source, [3], begun_ms=mark.begun_ms, end_offset=0, state="lost")
    assert run(local, source).replayed.total() == 1


def write_mark(local: Settings, source: str, offsets: list[int], **given: Any) -> records.ReplayMark:
    place: dict[str, Any] = {"topic": source, "partition": PARTITION, "offsets": offsets}
    mark = records.ReplayMark(**({"state": "begun"} | place | given))
    header = (codec.REPLAY_MARK_HEADER, records.encode(mark))
    write(local, topics.DEAD_LETTERS.name, 0, [(source.encode(), None, [header])])
    return mark


def test_list_shows_the_newest_and_what_was_replayed(
    local: Settings, source: str, capsys: pytest.CaptureFixture[str]
):
    """The answer as JSON and as text; older letters than asked for do not count."""
    write_letters(local, *(failed(source, offset, reason=f"bad {offset % 2}") for offset in range(5)))
    write_letters(local, failed(source, 9, failed_time_ms=0))
    run(local, source, records_max=4)
    command.show(topic=source, since="1h", limit=2, json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["reasons"] == {"bad 0": 3, "bad 1": 2}
    assert [(row["source"], row["replayed"]) for row in found["letters"]] == [
        (f"{source}/{PARTITION}/3", True),
        (f"{source}/{PARTITION}/4", False),
    ]
    command.show(topic=source)
    assert "6 letters, 6 shown" in capsys.readouterr().out


def test_commands_say_what_they_did(local: Settings, source: str, capsys: pytest.CaptureFixture[str]):
    """How many went where; a time that cannot be read ends with how to write it."""
    write_letters(local, failed(source, 3))
    command.replay(topic=source, dry_run=True)
    assert "1 would be written, 0 left" in capsys.readouterr().out
    command.replay(topic=source)
    assert f"ok  1 written to {source}/{PARTITION}" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="as in 2h"):
        command.show(since="soon")
