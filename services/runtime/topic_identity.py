"""Which topic it is: its name, and the id that Kafka gives each topic since 2.8. Pure.

A topic that was deleted and recreated starts with offset 0 again. The offsets of the old topic must neither
be used as read positions in the new one nor be compared with offsets of its records.
"""

import hashlib
from collections.abc import Mapping

from streams.outages import OutageError

_SEPARATOR = "@"
_DIGEST_CHARS = 8


class TopicRecreatedError(OutageError):
    """A topic that is read was recreated: the next session reads it from its start."""


def identity(topic: str, topic_id: str | None) -> str:
    """Return name and id of a topic as one text; a broker before Kafka 2.8 gives no id."""
    return f"{topic}{_SEPARATOR}{topic_id or ''}"


def source_of(found: str) -> str:
    """Return the short digest of an identity that records carry beside their offset; empty without one.

    >>> source_of(identity("orders", None))
    '22437fe2'
    """
    return hashlib.sha256(found.encode()).hexdigest()[:_DIGEST_CHARS] if found else ""


def is_same(known: str, now: str) -> bool:
    """Tell whether two identities may be of one topic; unknown ones may."""
    if not known or not now:
        return True
    (name, _, uuid), (name_now, _, uuid_now) = known.partition(_SEPARATOR), now.partition(_SEPARATOR)
    return name == name_now and (uuid == uuid_now or not uuid or not uuid_now)


def recreated(known: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the topics that have another id now; one that is deleted, or has no id, is no other topic.

    Args:
        known: The id of each topic when its reading began.
        now: The id of each topic that exists.
    """
    return sorted(
        topic for topic, found in known.items() if found and now.get(topic) not in (None, "", found)
    )


def require_same(known: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raise `TopicRecreatedError` if `recreated` returns any topic."""
    if found := recreated(known, now):
        raise TopicRecreatedError(
            f"recreated since the last read: {', '.join(found)}; reading continues from the start"
        )
