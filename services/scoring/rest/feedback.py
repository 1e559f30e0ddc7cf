"""``POST /feedback``: labels in, onto the label topic, where drift joins them with their predictions.

The body is ``{"model": "arrival_delay", "labels": [{...}, ...]}``, each label as model.yaml declares it. The
response is 202 with ``{"model": ..., "accepted": n}`` once the broker has acknowledged all labels. After any
other response the same labels may be sent again: a label that was already written is counted once.
"""

import msgspec
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.runtime.web import server
from services.scoring.rest import http_requests
from services.scoring.rest.http_requests import ServedModels
from streams.producer import RecordTooLargeError
from streams.schemas import SchemaRegistryUnavailableError


class _FeedbackBody(msgspec.Struct):
    labels: list[msgspec.Raw]
    model: str | msgspec.UnsetType = msgspec.UNSET


def routes(models: ServedModels) -> list[Route]:
    """Return the route."""

    async def feedback(request: Request) -> Response:
        body = await http_requests.read(request, _FeedbackBody)
        predictor = http_requests.choose(models, body.model, request)
        http_requests.check_count("labels", len(body.labels), predictor.limits)
        labels = http_requests.decode(predictor.label_decoder, "labels", body.labels)
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
        return http_requests.as_json({"model": predictor.name, "accepted": len(labels)}, 202)

    return [Route("/feedback", http_requests.handle_errors(feedback), methods=["POST"])]
