"""The parts of the layout that are our own. tests/contract compares the rest with Feast."""

import pytest

from services.feature_store import feast_layout
from services.feature_store.feast_layout import LayoutError
from services.feature_store.plan import Column, ValueType

KEYS = (Column("shop", ValueType.STRING), Column("desk", ValueType.INT64))
SIDECAR = feast_layout.encode_sidecar({3: 17, 0: 2**40}, b"state", generation=5, definition=9)


def test_sidecar_is_read_back_and_does_not_depend_on_the_order_of_its_offsets() -> None:
    raw = feast_layout.encode_sidecar({3: 17, 0: 2**40}, b"state")
    assert raw == feast_layout.encode_sidecar({0: 2**40, 3: 17}, b"state")
    assert feast_layout.decode_sidecar(raw) == ({0: 2**40, 3: 17}, b"state")
    assert feast_layout.sidecar_state(raw, 0) == b"state"


def test_a_sidecar_of_one_partition_has_the_same_form() -> None:
    raw = feast_layout.encode_sidecar({2: -1}, b"state", generation=2**63)
    assert feast_layout.decode_sidecar(raw) == ({2: -1}, b"state")
    assert feast_layout.sidecar_generation(raw) == 2**63


def test_the_version_is_all_but_the_state() -> None:
    assert feast_layout.sidecar_version(SIDECAR) + b"state" == SIDECAR
    assert feast_layout.sidecar_generation(SIDECAR) == 5


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "0 bytes are not a sidecar"),
        (b"\x01" + SIDECAR[1:], "format 1; only format 3 can be read"),
        (SIDECAR[:20], "20 bytes are not a sidecar: 2 offsets need 39"),
        (SIDECAR, "of definition 00000009, not of 00000000"),
    ],
    ids=["empty", "other format", "cut off", "other definition"],
)
def test_bytes_of_something_else_are_refused(raw: bytes, reason: str) -> None:
    with pytest.raises(LayoutError, match=reason):
        feast_layout.sidecar_state(raw, 0)


@pytest.mark.parametrize(
    ("key", "project"),
    [
        (feast_layout.entity_key_encoder("shop", KEYS)(("mill", 7)), b"shop"),
        (feast_layout.entity_key_encoder("workshop", KEYS)(("mill", 7)), b"workshop"),
        (b"driftline:progress:shop", None),
        (b"shop", None),
        (b"\x01\x00\x00\x00\x02\x00\x00\x00\xff\xff\xff\xffshop", None),
    ],
)
def test_the_project_is_read_from_an_entity_key(key: bytes, project: bytes | None) -> None:
    assert feast_layout.project_of(key) == project


@pytest.mark.parametrize("time_ms", [0, 1, 999, 1000, 1_372_680_000_123, -1])
def test_a_timestamp_leaves_out_parts_that_are_zero_and_is_read_back(time_ms: int) -> None:
    raw = feast_layout.encode_timestamp(time_ms)
    assert feast_layout.decode_timestamp(raw) == time_ms
    assert (b"\x10" in raw[:1] or b"\x08" in raw[:1]) == (time_ms != 0)


def test_without_a_row_there_is_no_time() -> None:
    assert feast_layout.decode_timestamp(None) is None
