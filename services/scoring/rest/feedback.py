"""``POST /feedback``: labels in, onto the label topic, where drift joins them with their predictions.

The body is ``{"model": "arrival_delay", "labels": [{...}, ...]}``, each label as model.yaml declares it. The
response is 202 with ``{"model": ..., "accepted": n, "labels": [...]}`` once the broker has acknowledged all
labels. After any other response the same labels may be sent again: a label that was already written is
counted once.

The response says of each label what follows from the label and the declaration, see `LabelAnswer`. Scoring
keeps no predictions and no labels. So it does not say whether a prediction exists, or whether a label of
another request to this route has come before.
"""

import operator
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.monitoring.label_join import SKEW_MS_MAX
from services.monitoring.label_precedence import KnownLabel, counting, effect_of
from services.monitoring.label_values import LabelValues
from services.runtime.declaration import ModelDeclaration
from services.runtime.web import server
from services.scoring.rest import http_requests
from services.scoring.rest.http_requests import ServedModels
from streams import codec
from streams.json_decoder import JsonDecoder
from streams.producer import RecordTooLargeError
from streams.schemas import SchemaRegistryUnavailableError

Result = Literal["written", "repeats", "corrects", "superseded"]


class _FeedbackBody(msgspec.Struct):
    labels: list[msgspec.Raw]
    model: str | msgspec.UnsetType = msgspec.UNSET


_BODIES: JsonDecoder[_FeedbackBody] = JsonDecoder(_FeedbackBody)


class LabelAnswer(msgspec.Struct, frozen=True):
    """What will become of one label that was written."""

    prediction_id: str
    counts_from_ms: int
    """Event time of the label. It counts then, or when its partition has reached a later time."""
    requests_from_ms: int
    requests_to_ms: int
    """Event times, both included, between which the request must be: a label of an earlier request is after
    the horizon (with ``label.absent``: after two), one of a later request is dated before it. Other labels
    are not joined."""
    result: Result
    """Result among the labels of this body with the same id. ``written``: the first; ``repeats``: the same
    value again; ``corrects``: another value; ``superseded``: dated before a label with another value."""


def routes(models: ServedModels) -> list[Route]:
    """Return the route."""

    async def feedback(request: Request) -> Response:
        body = await http_requests.read(request, _BODIES)
        predictor = http_requests.choose(models, body.model, request)
        http_requests.check_count("labels", len(body.labels), predictor.limits)
        labels = http_requests.decode(predictor.label_decoder, "labels", body.labels)
        answers = answers_of(predictor.declaration, labels)
        try:
            await predictor.write_labels(labels)
        except (RecordTooLargeError, MessageSizeTooLargeError) as error:
            raise server.RequestError(413, f"a label is too large: {error}") from error
        except SchemaRegistryUnavailableError as error:
            message = "the schema registry cannot be reached; send the labels again"
            raise http_requests.unavailable(message, 5) from error
        except KafkaError as error:
            message = "the Kafka broker cannot be reached; send the labels again"
            raise http_requests.unavailable(message) from error
        document = {"model": predictor.name, "accepted": len(labels), "labels": answers}
        return http_requests.as_json(document, 202)

    return [Route("/feedback", http_requests.handle_errors(feedback), methods=["POST"])]


def answers_of(declaration: ModelDeclaration, labels: Sequence[Any]) -> list[LabelAnswer]:
    """Return what will become of decoded labels; raise `RequestError` for a value that is no label."""
    declared, values = declaration.label, LabelValues(declaration)
    fields = operator.attrgetter(declared.id, declared.event_time, declared.value)
    counts: dict[str, KnownLabel] = {}
    answers = []
    for index, label in enumerate(labels):
        prediction_id, event_time, value = fields(label)
        try:
            time_ms, number = codec.epoch_ms(event_time), values.number(value)
        except codec.InvalidRecordError as error:
            raise server.RequestError(400, f"labels[{index}]: {error}") from error
        known = counts.get(prediction_id)
        effect = effect_of(number, time_ms, known)
        counts[prediction_id] = counting(number, time_ms, known)
        answers.append(
            LabelAnswer(
                prediction_id,
                time_ms,
                time_ms - declared.waits_ms,
                time_ms + SKEW_MS_MAX,
                "written" if effect == "first" else effect,
            )
        )
    return answers
