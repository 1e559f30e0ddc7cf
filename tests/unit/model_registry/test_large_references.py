"""A large reference is read as it was written, or named as lost."""

import hashlib
import zlib
from collections.abc import Sequence

import msgspec
import pytest

from services.model_registry import large_references
from services.model_registry.large_references import ReferenceLostError
from services.runtime import large_records
from services.runtime.large_records import FoundValue, LargeRecordReader
from streams import topics
from streams.producer import Record
from streams.records import FeatureReference, Reference


class Topic:
    """The topic in memory."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def write(self, batch: Sequence[Record]) -> None:
        self.records += batch

    def latest(self, key: bytes) -> FoundValue | None:
        reader = LargeRecordReader([key])
        for offset, (found, value, _) in enumerate(self.records):
            reader.take(offset, found, value)
        return reader.found().get(key)


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> Topic:
    monkeypatch.setattr(large_records, "PART_BYTES_MAX", 100)
    return Topic()


def reference(version: int, features: int = 200) -> Reference:
    names = [f"feature {number * version}" for number in range(features)]
    rows = [FeatureReference(feature=name, counts=[1, 2], missing=0, edges=[0.5]) for name in names]
    return Reference(version=version, features=rows, score=None, log_loss=0.5)


def test_each_version_is_read_by_its_name(topic: Topic) -> None:
    written = [reference(version) for version in (1, 2, 3)]
    names = [large_references.publish(topic.latest, topic.write, "m", each) for each in written]
    assert [name.version for name in names] == [1, 2, 3]
    assert [large_references.read(topic.latest, "m", name) for name in names] == written


def test_a_repeat_writes_nothing(topic: Topic) -> None:
    name = large_references.publish(topic.latest, topic.write, "m", reference(1))
    count = len(topic.records)
    assert count > 2
    assert large_references.publish(topic.latest, topic.write, "m", reference(1)) == name
    assert len(topic.records) == count


def test_a_version_takes_the_place_of_an_old_one_which_is_lost(topic: Topic) -> None:
    old = large_references.publish(topic.latest, topic.write, "m", reference(1))
    later = reference(1 + large_references.KEYS, features=300)
    name = large_references.publish(topic.latest, topic.write, "m", later)
    assert large_references.read(topic.latest, "m", name) == later
    with pytest.raises(ReferenceLostError, match=r"driftline.references does not hold .* version 1 of m"):
        large_references.read(topic.latest, "m", old)


def test_a_damaged_one_is_written_again(topic: Topic) -> None:
    large_references.publish(topic.latest, topic.write, "m", reference(1))
    topic.records.append((b"m/1/part/0/0000", b"damage", []))
    name = large_references.publish(topic.latest, topic.write, "m", reference(1))
    assert large_references.read(topic.latest, "m", name) == reference(1)


def test_a_reference_that_fits_into_a_change_is_not_large(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not large_references.is_large(reference(1))
    monkeypatch.setattr(large_references, "INLINE_BYTES_MAX", 10)
    assert large_references.is_large(reference(1))


def test_the_largest_reference_in_a_change_fits_into_its_record() -> None:
    assert topics.MODELS.message_bytes_max() >= large_references.INLINE_BYTES_MAX + topics.OVERHEAD_BYTES


@pytest.mark.parametrize("value", [b"no zlib", zlib.compress(b"[" * 10_000), zlib.compress(b"{}")])
def test_a_reference_that_cannot_be_read_is_named(topic: Topic, value: bytes) -> None:
    name = large_references.publish(topic.latest, topic.write, "m", reference(1))
    forged = FoundValue(0, value, large_records.PartLayout())
    digest = hashlib.sha256(value).hexdigest()
    with pytest.raises(ReferenceLostError, match="of version 1 of m cannot be read"):
        large_references.read(lambda _: forged, "m", msgspec.structs.replace(name, sha256=digest))
