"""The dead letters that hold a record of a subject.

Kafka cannot delete single records of a topic that is not compacted, and dead letters are kept without a
limit. So the letters up to the last one of the subject are written again at the end of the topic, without the
subject's, and then deleted up to there. After a crash between the two, the next run writes only those that
are not there yet, and deletes.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator

from kafka import TopicPartition

from services.runtime import kafka_admin, kafka_consumers, kafka_producers
from services.runtime.settings import Settings
from streams import records, topics
from streams.codec import Headers, KafkaRecord
from streams.json_decoder import InvalidRecordError
from streams.records import DeadLetter

TOPIC = topics.DEAD_LETTERS.name
_decode = records.decoder_of(DeadLetter).decode
IsOwn = Callable[[DeadLetter], bool]


@dataclasses.dataclass(frozen=True)
class LetterPlan:
    """What has to be done."""

    own: int
    """Number of letters of the subject."""
    end: int
    """Letters before this offset are deleted: the last one of the subject is the last of them."""
    copied: frozenset[int]
    """Offsets of the records before ``end`` that are written again first."""


def plan_of(found: Iterable[KafkaRecord], is_own: IsOwn) -> LetterPlan:
    """Return what has to be done with the records of the topic, in order. Pure."""
    own: list[int] = []
    others: list[tuple[int, bytes]] = []
    for record in found:
        letter = _letter(record)
        if letter is not None and is_own(letter):
            own.append(record.offset)
        else:
            others.append((record.offset, _identity(record)))
    end = own[-1] + 1 if own else 0
    known = {identity for offset, identity in others if offset >= end}
    copied = set[int]()
    for offset, identity in others:
        if offset < end and identity not in known:
            known.add(identity)
            copied.add(offset)
    return LetterPlan(len(own), end, frozenset(copied))


def find(settings: Settings, is_own: IsOwn) -> LetterPlan:
    """Read the topic. Raises `KafkaError` or `MissingTopicError`."""
    return plan_of(_read(settings), is_own)


def erase(settings: Settings, plan: LetterPlan) -> None:
    """Write the others again, then delete all up to the last letter of the subject. Raises `KafkaError`."""
    if not plan.own:
        return
    with kafka_producers.connected(settings) as producer:
        for record in _read(settings):
            if record.offset in plan.copied:
                producer.send(TOPIC, record.key, record.value, _headers(record.headers))
    delete_before(settings, plan.end)


def delete_before(settings: Settings, end: int) -> None:
    """Delete the records before an offset."""
    with kafka_admin.connected(settings.kafka_options()) as admin:
        admin.delete_records({TopicPartition(TOPIC, 0): end})


def _read(settings: Settings) -> Iterator[KafkaRecord]:
    return kafka_consumers.read_topic(settings, "erase-letters", TOPIC)


def _letter(record: KafkaRecord) -> DeadLetter | None:
    if record.value is None:
        return None
    try:
        letter: DeadLetter = _decode(record.value)
    except InvalidRecordError:
        return None
    return letter


def _identity(record: KafkaRecord) -> bytes:
    """Return what is the same in a record and its copy."""
    parts = [
        record.key,
        record.value,
        *(part for name, value in record.headers for part in (name.encode(), value)),
    ]
    found = hashlib.sha256()
    for part in parts:
        found.update(b"-" if part is None else b"%d:" % len(part) + part)
    return found.digest()


def _headers(headers: Headers) -> list[tuple[str, bytes]]:
    return [(name, b"" if value is None else value) for name, value in headers]
