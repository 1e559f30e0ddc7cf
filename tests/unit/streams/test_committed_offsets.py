"""The text that is committed with an offset tells of which topic the offset is."""

import pytest

from streams.committed_offsets import is_of, text_of


@pytest.mark.parametrize(
    ("text", "topic_id", "expected"),
    [
        (text_of("a"), "a", True),
        (text_of("a"), "b", False),
        (text_of("a"), "", None),
        (text_of(""), "a", None),
        ("of another tool", "a", None),
    ],
)
def test_an_offset_is_of_the_topic_whose_id_was_committed(
    text: str, topic_id: str, *, expected: bool | None
) -> None:
    assert is_of(text, topic_id) is expected
