"""Whether an offset that a group has committed is of the present topic, or of one that was deleted. Pure.

A topic that was deleted and recreated starts with offset 0 again. Kafka deletes the group's offsets together
with the topic, but a member that still runs may commit one afterwards: it then counts for the new topic. So
each commit holds the id of the topic that was read, in the text that Kafka keeps with an offset.
"""

_PREFIX = "topic-id "


def text_of(topic_id: str) -> str:
    """Return the text to commit with an offset; empty if the broker (before Kafka 2.8) gives no ids."""
    return f"{_PREFIX}{topic_id}" if topic_id else ""


def is_of(text: str, topic_id: str) -> bool | None:
    """Tell by the text of a committed offset whether it is of a topic; None if that is unknown.

    >>> is_of(text_of("a"), "a"), is_of(text_of("a"), "b"), is_of("", "b")
    (True, False, None)
    """
    if not topic_id or not text.startswith(_PREFIX):
        return None
    return text == text_of(topic_id)
