"""References that are too large for a record of the models topic: in parts, in a topic of their own.

A change of a model then holds the name of its reference: version and digest. The reference is written first,
so a change that can be read names a reference that can be read, also while MLflow is down.
"""

import contextlib
import hashlib
import zlib
from collections.abc import Callable, Sequence

import msgspec
from kafka import TopicPartition

from services.runtime import kafka_consumers, kafka_producers
from services.runtime.decompression import decompressed
from services.runtime.large_records import FoundValue, LargeRecordError, LargeRecordWriter, Write
from services.runtime.settings import Settings
from services.runtime.topic_creation import ensure_topics
from streams import records, topics
from streams.json_decoder import InvalidRecordError
from streams.producer import Record
from streams.records import ModelChanged, Reference, ReferenceName

PARTITION = TopicPartition(topics.REFERENCES.name, 0)
KEYS = 8
"""Keys per model, which its versions use in turn: as many as drift keeps references."""
INLINE_BYTES_MAX = topics.MODELS.message_bytes_max() - topics.OVERHEAD_BYTES
"""Maximum size of a reference in a change: some 3,000 features with 20 segments each."""

Latest = Callable[[bytes], FoundValue | None]
"""Returns the latest value of a key of the topic; raises `LargeRecordError` if it is not complete."""
Read = Callable[[str, ReferenceName], Reference]
"""Returns the reference of a model that a change names."""

_decode = records.decoder_of(Reference).decode


class ReferenceLostError(ValueError):
    """The topic does not hold a reference that a change names. The message says which."""


def is_large(reference: Reference) -> bool:
    """Return whether a reference does not fit into a change."""
    return len(records.encode(reference)) > INLINE_BYTES_MAX


def publish(latest: Latest, write: Write, model: str, reference: Reference) -> ReferenceName:
    """Write a reference; return its name when all of it is acknowledged. A repeat writes nothing."""
    key, value = _key(model, reference.version), zlib.compress(records.encode(reference), level=1)
    found = None
    with contextlib.suppress(LargeRecordError):  # it is replaced
        found = latest(key)
    if found is None or found.value != value:
        writer = LargeRecordWriter(write)
        writer.learn({} if found is None else {key: found})
        writer.put(key, value)
    return ReferenceName(version=reference.version, sha256=_digest(value))


def publish_connected(settings: Settings, model: str, reference: Reference) -> ReferenceName:
    """Write a reference over new connections, see `publish`; raises `KafkaError` without a broker."""
    ensure_topics(settings, {})
    with kafka_producers.connected(settings) as producer:

        def write(batch: Sequence[Record]) -> None:
            for key, value, _ in batch:
                producer.send(topics.REFERENCES.name, key or b"", value)

        return publish(latest_in(settings), write, model, reference)


def in_change(settings: Settings, change: ModelChanged, reference: Reference) -> ModelChanged:
    """Return a change with another reference; one that is too large for it is written here."""
    if not is_large(reference):
        return msgspec.structs.replace(change, reference=reference, reference_name=None)
    name = publish_connected(settings, change.model, reference)
    return msgspec.structs.replace(change, reference=None, reference_name=name)


def read(latest: Latest, model: str, name: ReferenceName) -> Reference:
    """Return a reference.

    Raises:
        ReferenceLostError: A later version has taken its place, or it was deleted, or cannot be read.
        LargeRecordError: Its parts are not complete.
    """
    found = latest(_key(model, name.version))
    if found is None or _digest(found.value) != name.sha256:
        raise ReferenceLostError(
            f"{PARTITION.topic} does not hold the reference of version {name.version} of {model}: retrain to "
            "get another one"
        )
    try:
        reference: Reference = _decode(decompressed(found.value))
    except (zlib.error, InvalidRecordError) as error:
        raise ReferenceLostError(
            f"the reference of version {name.version} of {model} cannot be read: {error}: retrain to get "
            "another one"
        ) from error
    return reference


def latest_in(settings: Settings) -> Latest:
    """Return a reader of the topic with a separate connection; it raises `KafkaError` without a broker."""

    def latest(key: bytes) -> FoundValue | None:
        with contextlib.closing(kafka_consumers.connect(settings, "references")) as consumer:
            return kafka_consumers.latest_values(consumer, PARTITION, [key]).get(key)

    return latest


def _key(model: str, version: int) -> bytes:
    return f"{model}/{version % KEYS}".encode()


def _digest(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()
