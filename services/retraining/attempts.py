"""How often requests were attempted. The committed offset keeps the counts, so they survive a kill. Pure.

A committed offset has a text beside it, of at most 4 KiB. It holds the attempts at each request that
has begun and has no result, by offset. The text also holds the id of the topic: an offset of a topic that was
deleted must not be used in the recreated one.
"""

import msgspec

from streams.defects import ATTEMPTS_MAX

REASON_CHARACTERS_MAX = 300
"""Maximum length of a reason, so that ten requests fit into the text."""


class Attempts(msgspec.Struct, frozen=True):
    """The attempts at the request of one offset."""

    offset: int
    begun: int = 0
    reason: str = "the process was killed each time, check its memory"
    """Why the last one failed."""

    @property
    def are_used_up(self) -> bool:
        """Whether the request must not be attempted again."""
        return self.begun >= ATTEMPTS_MAX

    def next(self) -> "Attempts":
        """Return these attempts and one more."""
        return msgspec.structs.replace(self, begun=self.begun + 1)

    def failed(self, reason: str) -> "Attempts":
        """Return these attempts with the reason of the last one."""
        return msgspec.structs.replace(self, reason=reason[:REASON_CHARACTERS_MAX])

    def taken_back(self) -> "Attempts":
        """Return these attempts without the last one, which an outage or a stop ended."""
        return msgspec.structs.replace(self, begun=self.begun - 1)


class OpenAttempts(msgspec.Struct, frozen=True):
    """The attempts at all requests that have begun and have no result."""

    begun: list[Attempts] = []
    topic_id: str = ""
    """Id of the topic of these offsets; empty if the broker gives none, or an older version wrote them."""

    def of(self, offset: int) -> Attempts:
        """Return the attempts at an offset."""
        return next((each for each in self.begun if each.offset == offset), Attempts(offset))

    def noted(self, attempts: Attempts) -> "OpenAttempts":
        """Return these with others at one offset."""
        others = [each for each in self.begun if each.offset != attempts.offset]
        return msgspec.structs.replace(self, begun=[*others, attempts] if attempts.begun else others)

    def without(self, offset: int) -> "OpenAttempts":
        """Return these without those at an offset, whose request has a result."""
        return msgspec.structs.replace(self, begun=[each for each in self.begun if each.offset != offset])

    def are_of_another_topic(self, topic_id: str) -> bool:
        """Tell whether the offsets are of a topic that was deleted, and not of the one with this id."""
        return bool(self.topic_id and topic_id) and self.topic_id != topic_id

    def text(self) -> str:
        """Return the text to commit."""
        return msgspec.json.encode(self).decode()


def of_text(text: str | None) -> OpenAttempts:
    """Return the attempts that a committed text describes; none if it is empty or of another version."""
    try:
        return msgspec.json.decode(text or "", type=OpenAttempts)
    except msgspec.DecodeError:
        return OpenAttempts()
