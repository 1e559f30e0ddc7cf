"""Which records are of a subject: by its join keys, or by the id of one of its requests. Pure.

A request is of the subject if its fields name the subject's join keys. Predictions, outcomes and labels name
the id of the request.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from services.feature_store.plan import FeaturePlan
from services.operations.erasure.subject import Subject
from services.runtime.declaration import ApplicationTopic, ModelDeclaration
from streams import topics
from streams.json_decoder import InvalidRecordError
from streams.records import DeadLetter
from streams.schemas import Encoding

Fields = Mapping[str, Any]
ReadFields = Callable[[str, bytes], Fields | None]
"""Returns the fields of a record of a topic; None if it cannot be read."""
_WORD = rb"[0-9A-Za-z_]"


def json_fields(value: bytes) -> Fields | None:
    """Return the fields of a JSON object, also of one that does not fit its schema; None otherwise.

    >>> json_fields(b'{"a": 1}'), json_fields(b'[1]'), json_fields(b'{')
    ({'a': 1}, None, None)
    """
    try:
        found = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


class RecordMatcher:
    """Recognises the records of one subject."""

    def __init__(
        self,
        subject: Subject,
        plan: FeaturePlan,
        models: Mapping[str, ModelDeclaration],
        read_fields: ReadFields = lambda _topic, value: json_fields(value),
    ) -> None:
        """Begin without the id of any request.

        Args:
            subject: The subject.
            plan: The applied repository.
            models: The declared models.
            read_fields: Reads records that are not JSON as well.
        """
        self._subject = subject
        self._read = read_fields
        self._requests = _by_topic(models, lambda model: model.request)
        self._labels = _by_topic(models, lambda model: model.label)
        self._own = {topics.predictions(name): name for name in models}
        self._own |= {topics.outcomes(name): name for name in models}
        self._keyed = {
            topic
            for topic, views in plan.by_topic().items()
            if views[0].source is not None and views[0].source.message_key == subject.join_keys
        }
        self.ids: dict[str, set[str]] = {name: set() for name in models}
        """The ids of the subject's requests, by model."""
        text = [re.escape(text.encode()) for text in subject.parts.values()]
        self._texts = [re.compile(b"(?<!%s)%s(?!%s)" % (_WORD, each, _WORD)) for each in text]

    def is_own(self, topic: str, key: bytes | None, value: bytes | None) -> bool:
        """Return whether a record of an application is of the subject."""
        fields = None if value is None else self._read(topic, value)
        if fields is None:
            return topic in self._keyed and key == next(iter(self._subject.parts.values())).encode()
        return self._subject.is_in(fields) or self._has_own_id(topic, fields)

    def note_request(self, topic: str, value: bytes | None) -> None:
        """Take the id of a request of the subject."""
        fields = (None if value is None else self._read(topic, value)) or {}
        for model, name in self._requests.get(topic, ()):
            if isinstance(found := fields.get(name), str):
                self.ids[model].add(found)

    def is_own_result(self, topic: str, value: bytes | None) -> bool:
        """Return whether a prediction or an outcome is of one of the subject's requests."""
        fields = None if value is None else json_fields(value)
        return fields is not None and fields.get("prediction_id") in self.ids[self._own[topic]]

    def is_own_letter(self, letter: DeadLetter) -> bool:
        """Return whether a dead letter holds a record of the subject.

        A record that cannot be read is of the subject if it holds the values, or the id of a request.
        """
        if letter.topic in self._own:
            if self.is_own_result(letter.topic, letter.value):
                return True
        elif self.is_own(letter.topic, letter.key, letter.value):
            return True
        parsed = letter.value is not None and self._read(letter.topic, letter.value) is not None
        if parsed and letter.cut_from_bytes is None:
            return False
        raw = b"\n".join([letter.key or b"", letter.value or b"", letter.reason.encode()])
        if all(text.search(raw) for text in self._texts):
            return True
        ids = self.ids_of_topic(letter.topic)
        return any(each.encode() in raw for each in ids)

    def ids_of_topic(self, topic: str) -> set[str]:
        """Return the ids that records of a topic name."""
        if topic in self._own:
            return self.ids[self._own[topic]]
        named = [*self._requests.get(topic, ()), *self._labels.get(topic, ())]
        return {each for model, _ in named for each in self.ids[model]}

    def _has_own_id(self, topic: str, fields: Fields) -> bool:
        """Return whether a record that does not say whose it is, such as a label, has the id of a request."""
        if all(name in fields for name in self._subject.join_keys):
            return False
        named = [*self._labels.get(topic, ()), *self._requests.get(topic, ())]
        return any(fields.get(name) in self.ids[model] for model, name in named if _is_text(fields.get(name)))


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _by_topic(
    models: Mapping[str, ModelDeclaration], part_of: Callable[[ModelDeclaration], ApplicationTopic]
) -> dict[str, list[tuple[str, str]]]:
    """Return model and id field of each topic of requests, or of labels."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name, model in models.items():
        part = part_of(model)
        found.setdefault(part.topic, []).append((name, part.id))
    return found


def decoders(
    plan: FeaturePlan, models: Mapping[str, ModelDeclaration], decoder_of: Callable[..., Any]
) -> ReadFields:
    """Return what reads the fields of the records of all topics, by their declared encoding.

    Args:
        plan: The applied repository.
        models: The declared models.
        decoder_of: Makes the decoder of a topic, its fields and its encoding, see `streams.registered_codec`.
    """
    found: dict[str, list[Any]] = {}
    parts: list[ApplicationTopic] = [part for one in models.values() for part in (one.request, one.label)]
    for part in parts:
        if part.encoding is not Encoding.JSON:
            found.setdefault(part.topic, []).append((part.fields, part.encoding))
    for topic, views in plan.by_topic().items():
        source = views[0].source
        if source is not None and source.encoding is not Encoding.JSON:
            found.setdefault(topic, []).append((source.fields, source.encoding))
    made = {
        topic: [(fields, decoder_of(topic, fields, kind)) for fields, kind in each]
        for topic, each in found.items()
    }

    def read(topic: str, value: bytes) -> Fields | None:
        if topic not in made:
            return json_fields(value)
        fields: dict[str, Any] = {}
        for declared, decoder in made[topic]:
            try:
                event = decoder.decode(value)
            except InvalidRecordError:
                continue
            fields |= {field.name: getattr(event, field.name) for field in declared}
        return fields or None

    return read
