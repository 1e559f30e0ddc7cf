"""The subjects whose data were erased, and which of their events a state must leave out.

An online store is built from topics that still hold the events of an erased subject until their retention
ends. So each erasure is a record of the topic `streams.topics.ERASURES`: the end of each source partition at
that time, and a digest in place of the value. The features process leaves out the events of the subject
before that end, whenever and from wherever it reads them again.
"""

import hashlib
import hmac
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from services.runtime import kafka_consumers
from services.runtime.kafka_consumers import MissingTopicError
from services.runtime.settings import Settings
from streams import records, topics
from streams.json_decoder import InvalidRecordError
from streams.records import Erasure

SALT_BYTES = 32
_decode = records.decoder_of(Erasure).decode


class _Digests(NamedTuple):
    """The erasures of subjects with the same join keys, whose digests have the same salt."""

    salt: bytes
    join_keys: tuple[str, ...]
    by_digest: Mapping[bytes, Sequence[Erasure]]


def text_of(value: Any) -> str | None:
    """Return the value of a join key as text; None if it cannot be one. A number is the same in any topic.

    >>> text_of(7), text_of("7"), text_of(7.0), text_of(None), text_of(True)
    ('7', '7', '7', None, None)
    """
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def digest_of(salt: bytes, parts: Mapping[str, Any]) -> bytes:
    """Return the digest of a subject, given the value of each of its join keys."""
    texts = [(name, text_of(value)) for name, value in sorted(parts.items())]
    return hmac.digest(salt, msgspec.json.encode(texts), hashlib.sha256)


class ErasedSubjects:
    """Tells which events are of erased subjects. Pure."""

    def __init__(self, erasures: Iterable[Erasure] = (), topic_ids: Mapping[str, str] | None = None) -> None:
        """Take the erasures, and the ids of the topics that are read, as far as they are known."""
        self._topic_ids = topic_ids or {}
        grouped: defaultdict[tuple[bytes, tuple[str, ...]], dict[bytes, list[Erasure]]] = defaultdict(dict)
        for each in erasures:
            found = grouped[each.salt, tuple(each.join_keys)]
            found.setdefault(each.digest, []).append(each)
        self._groups = [_Digests(*key, found) for key, found in grouped.items()]

    def __bool__(self) -> bool:
        """Return whether there is any."""
        return bool(self._groups)

    def of(self, parts: Mapping[str, Any]) -> list[Erasure]:
        """Return the erasures of an entity, or of a part of it, given the values of its join keys."""
        return [
            each
            for salt, names, by_digest in self._groups
            if all(name in parts for name in names)
            for each in by_digest.get(digest_of(salt, {name: parts[name] for name in names}), ())
        ]

    def covers(self, erasure: Erasure, topic: str, partition: int, offset: int) -> bool:
        """Return whether an event of the erased subject was before its erasure.

        Args:
            erasure: The subject's.
            topic: Source topic of the event.
            partition: Its source partition.
            offset: Its offset there.
        """
        ends = erasure.offsets.get(topic, ())
        known, now = erasure.topic_ids.get(topic), self._topic_ids.get(topic)
        if known and now and known != now:
            return False
        return partition < len(ends) and offset < ends[partition]


def read(settings: Settings, source: str = "features") -> list[Erasure]:
    """Return the latest state of each erasure; none if the topic does not exist.

    Raises:
        KafkaError: The broker cannot be reached.
    """
    found: dict[bytes | None, Erasure] = {}
    try:
        for record in kafka_consumers.read_topic(settings, f"{source}-erasures", topics.ERASURES.name):
            found.pop(record.key, None)
            if record.value is not None and (erasure := decoded(record.value)) is not None:
                found[record.key] = erasure
    except MissingTopicError:
        return []
    return list(found.values())


def decoded(value: bytes) -> Erasure | None:
    """Return the erasure of a record; None if it is not one: only ``driftline erase`` writes to the topic."""
    try:
        erasure: Erasure = _decode(value)
    except InvalidRecordError:
        return None
    return erasure


def notice_key(project: str) -> str:
    """Return the key in the online store whose value changes with each erasure: readers then look again."""
    return f"driftline:erasures:{project}"
