"""Hints at names."""

import pytest

from services.runtime.suggestions import nearest, suggestion


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("devise", " (did you mean device?)"),
        ("zzz", "; known are amount, device"),
        ("", "; known are amount, device"),
    ],
)
def test_a_hint_names_the_most_similar_one_or_all(name: str, hint: str) -> None:
    assert suggestion(name, ["amount", "device"]) == hint


def test_without_names_there_is_nothing_to_suggest() -> None:
    assert suggestion("device", []) == "; known are none"
    assert nearest("device", []) is None
