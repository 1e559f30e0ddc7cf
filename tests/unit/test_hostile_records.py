"""The kinds of hostile records: many, the same for the same seed, and in every topic that a process reads."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from services.operations import asyncapi
from services.runtime.declaration_file import load_all
from streams import codec, topics
from tests import hostile_records, hostile_world
from tests.hostile_records import Fate, Json, Shape, encoded

NOW_MS = 1_795_000_000_000
KINDS = hostile_records.kinds(NOW_MS)
PROCESSES = {"features", "scoring", "drift", "learning", "archive", "retraining", "dashboard", "alerting"}
REQUEST = Shape(
    "request", "id", "id", "note", "x", "n", "ok", "at", id_is_bounded=True, bytes_max=hostile_records.MIB
)
DECODER = codec.EventDecoder(
    [
        codec.Field("id", codec.FieldType.STRING, characters_max=codec.ID_CHARACTERS_MAX),
        *codec.parse_ddl("at timestamp not null, x double, n long, note string, ok boolean"),
    ]
)
FIELDS = {"id": "a", "at": "2026-01-01T00:00:00Z", "x": 1.0, "n": 5, "note": "s", "ok": True}


class PlainAvro:
    """Encodes values as JSON: enough to see which topics there are."""

    def encoder(self, topic: str, name: str, types: Json) -> Callable[[Json], bytes]:
        return encoded


def test_there_are_many_kinds() -> None:
    assert len(KINDS) >= 40


def test_a_seed_gives_the_same_records() -> None:
    first, again = (
        [kind.record(random.Random(7), REQUEST, FIELDS, b"k") for kind in KINDS.values()] for _ in range(2)
    )
    assert first == again


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS.values() if REQUEST.applies(kind)], ids=lambda k: k.name
)
def test_a_value_is_decoded_exactly_if_its_kind_says_so(kind: hostile_records.Kind) -> None:
    """Sizes and times are not a matter of this decoder."""
    for seed in range(5):
        record = kind.record(random.Random(seed), REQUEST, FIELDS, b"k")
        if (
            record.value is None
            or len(record.value) > hostile_records.MIB
            or kind.name == "time_before_year_1"
        ):
            continue
        if record.fate is Fate.INVALID:
            with pytest.raises(codec.InvalidRecordError, match=kind.reason):
                DECODER.decode(record.value)
        else:
            assert DECODER.decode(record.value) is not None


def test_each_topic_that_a_process_reads_gets_hostile_records(tmp_path: Path) -> None:
    prefix = "p"
    _, models = hostile_world.write_installation(tmp_path, prefix)
    declared = load_all(models)
    described = asyncapi.document(declared)["channels"]
    read = {
        channel["address"]
        for topic in topics.ALL
        if PROCESSES & set(topic.consumers)
        for channel in described.values()
        if channel["address"] == topic.name
    }
    read |= {
        channel["address"] for name, channel in described.items() if name.endswith(("_request", "_label"))
    }
    written = {target.topic for target in hostile_world.targets(prefix, PlainAvro(), NOW_MS)}
    names = {"model": f"{prefix}a", "view": f"{prefix}_by_shop"}
    assert {topic.format(**names) for topic in read} <= written
