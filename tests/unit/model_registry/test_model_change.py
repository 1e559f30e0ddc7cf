"""One decoder says what is a valid change of a model."""

import msgspec
import pytest

from services.model_registry import model_change
from services.model_registry.model_change import InvalidChangeError
from streams import records
from streams.feature_sets import feature_set
from streams.json_decoder import InvalidRecordError
from streams.records import Arm, ModelChanged

CHANGE = ModelChanged(
    model="m", arms=[Arm(name="champion", version=1, weight=10_000)], changed_at_ms=5, reason="r"
)


def test_decode_is_the_inverse_of_encode():
    assert model_change.decode(records.encode(CHANGE)) == CHANGE


def test_names_of_features_are_those_of_their_digest():
    """Under a digest that predictions refer to, other names would give their values another meaning."""
    published = feature_set("m", ["km", "payment"], ["payment"], {"km": "sum over 1 h"})
    assert model_change.decode_any(records.encode(published)) == published
    forgeries: list[dict[str, object]] = [
        {"names": ["payment", "km"]}, {"text": []}, {"definitions": {}}, {"digest": "d"},
    ]  # fmt: skip
    for changes in forgeries:
        forged = msgspec.structs.replace(published, **changes)
        with pytest.raises(InvalidChangeError, match="find the process that wrote it"):
            model_change.decode_any(records.encode(forged))


def test_tombstone_changes_nothing():
    assert model_change.decode(None) is None


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{}",
        b"no JSON",
        b"\xff",
        b'"\xff"',
        b'{"type": "model_changed"}',
        b"[]",
        b'{"x":' + b"[" * 2000 + b"]" * 2000 + b"}",
    ],
)
def test_other_value_is_invalid(value: bytes):
    """Readers that catch invalid records catch this one, too."""
    with pytest.raises(InvalidChangeError, match="not a valid ModelChanged") as caught:
        model_change.decode(value)
    assert isinstance(caught.value, InvalidRecordError)


def test_field_of_another_type_is_invalid():
    value = records.encode(CHANGE).replace(b'"changed_at_ms":5', b'"changed_at_ms":"5"')
    with pytest.raises(InvalidChangeError, match="changed_at_ms"):
        model_change.decode(value)
