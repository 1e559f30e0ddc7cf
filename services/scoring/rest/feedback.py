"""``POST /feedback``: labels in, onto the label topic, where drift joins them with their predictions.

``{"model": "arrival_delay", "labels": [{...}, ...]}``, each a label as model.yaml declares it, is answered
with 202 and ``{"model": ..., "accepted": n}`` once the broker has acknowledged all. After any other answer
the same labels may be sent again: what is there already is counted once.
"""

import msgspec
from aiokafka.errors import KafkaError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.runtime.web import server
from services.scoring.rest import request_handling
from services.scoring.rest.request_handling import Served
from streams.producer import RecordTooLargeError
from streams.schemas import RegistryAwayError


class _Body(msgspec.Struct):
    labels: list[msgspec.Raw]
    model: str | msgspec.UnsetType = msgspec.UNSET


def routes(served: Served) -> list[Route]:
    """Make the route; what is served may change at any time."""

    async def feedback(request: Request) -> Response:
        body = await request_handling.read(request, _Body)
        endpoint = request_handling.choose(served(), body.model, request)
        request_handling.check_count("labels", len(body.labels), endpoint.limits)
        labels = request_handling.decode(endpoint.label_decoder, "labels", body.labels)
        try:
            await endpoint.write_labels(labels)
        except RecordTooLargeError as error:
            raise server.RequestError(413, str(error)) from error
        except RegistryAwayError as error:
            raise server.RequestError(
                503, "the schema registry cannot be used", {"Retry-After": "5"}
            ) from error
        except KafkaError as error:
            raise server.RequestError(503, "the broker cannot be reached", {"Retry-After": "1"}) from error
        return request_handling.as_json({"model": endpoint.name, "accepted": len(labels)}, 202)

    return [Route("/feedback", request_handling.answering(feedback), methods=["POST"])]
