"""How often a request was attempted. The committed offset keeps the count, so it survives a kill. Pure.

A committed offset has a text beside it. While a request is handled, its own offset is committed with the
number of attempts, and after its result the next offset. The text also holds the id of the topic: an offset
of a topic that was deleted must not be used in the recreated one.
"""

import msgspec

from streams.defects import ATTEMPTS_MAX, REASON_CHARACTERS_MAX


class Attempts(msgspec.Struct, frozen=True):
    """The attempts at the request of one offset."""

    offset: int
    begun: int = 0
    reason: str = "the process was killed each time, check its memory"
    """Why the last one failed."""
    topic_id: str = ""
    """Of the topic whose offset it is; empty if the broker gives none, or an older version committed it."""

    @property
    def are_used_up(self) -> bool:
        """Whether the request must not be attempted again."""
        return self.begun >= ATTEMPTS_MAX

    def of(self, offset: int) -> "Attempts":
        """Return the attempts at an offset: these, or none if these are of another one."""
        return self if offset == self.offset else Attempts(offset, topic_id=self.topic_id)

    def passed(self, offset: int) -> "Attempts":
        """Return the attempts to commit when all before an offset is handled or waits.

        They may be those of a later request, while an earlier one waited.
        """
        return self if self.offset >= offset else self.of(offset)

    def next(self) -> "Attempts":
        """Return these attempts and one more."""
        return msgspec.structs.replace(self, begun=self.begun + 1)

    def failed(self, reason: str) -> "Attempts":
        """Return these attempts with the reason of the last one."""
        return msgspec.structs.replace(self, reason=reason[:REASON_CHARACTERS_MAX])

    def taken_back(self) -> "Attempts":
        """Return these attempts without the last one, which an outage ended."""
        return msgspec.structs.replace(self, begun=self.begun - 1)

    def are_of_another_topic(self, topic_id: str) -> bool:
        """Tell whether the offset is of a topic that was deleted, and not of the one with this id."""
        return bool(self.topic_id and topic_id) and self.topic_id != topic_id

    def text(self) -> str:
        """Return the text to commit."""
        return msgspec.json.encode(self).decode()


def of_text(text: str | None) -> Attempts:
    """Return the attempts that a committed text describes; none if it is empty or of another version."""
    try:
        return msgspec.json.decode(text or "", type=Attempts)
    except msgspec.DecodeError:
        return Attempts(-1)
