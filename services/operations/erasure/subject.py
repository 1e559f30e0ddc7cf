"""The subject that is to be erased: one entity of the Feast repository, or several together. Pure."""

import dataclasses
from collections.abc import Mapping, Sequence

from services.feature_store import erasures
from services.feature_store.plan import FeaturePlan, ValueType, View

_INTEGERS = {ValueType.INT32: 1 << 31, ValueType.INT64: 1 << 63}
"""The integer types of join keys, with the end of their range."""


class ErasureError(ValueError):
    """Nothing can be erased as asked. The message says why and what to do."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """The entities and their values."""

    entities: tuple[str, ...]
    parts: Mapping[str, str]
    """The value of each join key, as text."""

    @property
    def join_keys(self) -> tuple[str, ...]:
        """The names of the join keys, sorted."""
        return tuple(sorted(self.parts))

    @property
    def name(self) -> str:
        """What the subject is, without its value."""
        return " and ".join(self.entities)

    def is_in(self, fields: Mapping[str, object]) -> bool:
        """Return whether these fields of a record name the subject."""
        return all(erasures.text_of(fields.get(name)) == text for name, text in self.parts.items())

    def digest(self, salt: bytes) -> bytes:
        """Return the digest that stands for the values."""
        return erasures.digest_of(salt, self.parts)


def of(plan: FeaturePlan, words: Sequence[str]) -> Subject:
    """Read entities and values, such as ``aircraft N14228`` or ``carrier UA origin EWR``.

    Raises:
        ErasureError: An entity is unknown or has no value, or a value is not of the type of its join key.
    """
    known = ", ".join(sorted(plan.entities)) or "none; run 'driftline setup'"
    if not words:
        raise ErasureError(f"name an entity and its value; the entities are {known}")
    if len(words) % 2:
        raise ErasureError(
            f"the entity {words[-1]!r} has no value: name entity and value in turn, as in "
            "'driftline erase carrier UA origin EWR'"
        )
    parts: dict[str, str] = {}
    for entity, text in zip(words[::2], words[1::2], strict=True):
        if entity not in plan.entities:
            raise ErasureError(
                f"there is no entity {entity!r} in the Feast repository; the entities are {known}"
            )
        if not text:
            raise ErasureError(
                f"the value of {entity} is empty: give the value of {plan.entities[entity][0]}"
            )
        for name in plan.entities[entity]:
            if name in parts:
                raise ErasureError(f"{entity} is named twice: erase one value after the other")
            parts[name] = _checked(entity, text, _type_of(plan, name))
    return Subject(tuple(words[::2]), parts)


def views_of(plan: FeaturePlan, subject: Subject) -> list[View]:
    """Return the views with rows of the subject: its join keys are among theirs."""
    names = set(subject.join_keys)
    return [view for view in plan.views if names <= {key.name for key in view.join_keys}]


def _type_of(plan: FeaturePlan, join_key: str) -> ValueType:
    types = [key.type for view in plan.views for key in view.join_keys if key.name == join_key]
    return types[0] if types else ValueType.STRING


def _checked(entity: str, text: str, kind: ValueType) -> str:
    if (end := _INTEGERS.get(kind)) is None:
        return text
    try:
        value = int(text)
    except ValueError:
        value = end
    if not -end <= value < end:
        raise ErasureError(f"the value of {entity} must be an {kind}, {text!r} is not")
    return str(value)
