"""Whether the input topics of a model are those whose offsets its state holds, or other topics. Pure."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import structlog

from services.runtime.topic_identity import is_same
from streams.inputs import Resume

_log = structlog.get_logger()


def restart_if_recreated(resumes: list[Resume], known: str, now: str, ends: Sequence[int]) -> bool:
    """Set ``resumes`` to the topic's start if it is not the known topic; return whether it is another.

    Without ids, a topic that ends before a stored offset was recreated. Records of the new topic count at no
    earlier event time than the records that were read before: time does not go back.

    Args:
        resumes: Where reading continues, by partition.
        known: The identity in the state; empty if it is unknown.
        now: The identity of the topic; empty if it is unknown.
        ends: The end of each partition of the topic; empty if they are unknown.
    """
    is_beyond = bool(ends) and (
        len(resumes) > len(ends) or any(at.offset > end for at, end in zip(resumes, ends, strict=False))
    )
    if is_same(known, now) and not is_beyond:
        return False
    bound_ms = min((at.bound_ms for at in resumes), default=Resume().bound_ms)
    resumes[:] = [Resume(0, bound_ms)] * (len(ends) or len(resumes))
    return True


class InputsState(Protocol):
    """The part of a state that says where its inputs continue."""

    predictions: list[Resume]
    labels: list[Resume]
    topics: dict[str, str]


@dataclasses.dataclass(frozen=True)
class InputTopics:
    """The two input topics of a model, as they are now."""

    predictions: str = ""
    """Identity; empty if it is unknown."""
    labels: str = ""
    prediction_ends: Sequence[int] = ()
    """The end of each partition; empty if they are unknown."""
    label_ends: Sequence[int] = ()

    def restart_recreated(self, state: InputsState, service: str, model: str) -> list[str]:
        """Let a state read other topics than before from their start; return ``predictions``, ``labels``."""
        found = []
        for kind, resumes, now, ends in (
            ("predictions", state.predictions, self.predictions, self.prediction_ends),
            ("labels", state.labels, self.labels, self.label_ends),
        ):
            known = state.topics.get(kind, "")
            if restart_if_recreated(resumes, known, now, ends):
                found.append(kind)
                _log.warning(f"{service}.topic_recreated", model=model, input=kind, topic=now, before=known)
        state.topics = {"predictions": self.predictions, "labels": self.labels}
        return found


UNKNOWN_TOPICS = InputTopics()
"""Topics of which nothing is known: a state continues at its position."""
