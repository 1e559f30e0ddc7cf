"""What every route of the REST side shares: which model is asked, by whom, and what is said of an error.

400 bad input, with its place; 401 no valid token; 403 another team's model; 404 unknown; 408 a body that
takes too long; 413 a body too large; 422 a row that cannot be answered: a feature is missing that model.yaml
says must be there, no model was in effect at its event time, or that lies more than a day ahead, as a label's
must not either; 429 too many requests of a token; 500 a defect, with a reference to the log and no internals;
501 an optional part that is not installed; 503 overload, no model yet, a server that is away, or the process
stops; 504 the answer took too long.
"""

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
import redis.exceptions
from starlette.requests import Request
from starlette.responses import Response

from services.runtime.declaration import Limits
from services.runtime.web import authentication, server
from services.scoring.arm_routing import UnknownVersionError
from services.scoring.explanations import explainer, shap_values
from services.scoring.online_predictor import Endpoint, Overload, RefusedError, UnanswerableError
from streams import codec

VERSION = importlib.metadata.version("driftline")
BODY_BYTES_MAX = 4 << 20

Served = Callable[[], Mapping[str, Endpoint]]
"""Returns what answers now, by model."""
T = TypeVar("T")


def answering(handle: server.Handler) -> server.Handler:
    """Give every error of the inference path its status; see the module."""

    async def answer(request: Request) -> Response:
        try:
            return await handle(request)
        except codec.InvalidRecordError as error:
            raise server.RequestError(400, str(error)) from error
        except UnknownVersionError as error:
            raise server.RequestError(404, str(error)) from error
        except RefusedError as error:
            raise server.RequestError(422, str(error)) from error
        except shap_values.NotInstalledError as error:
            raise server.RequestError(501, str(error)) from error
        except Overload as error:
            raise server.RequestError(503, "overloaded, try again", {"Retry-After": "1"}) from error
        except UnanswerableError as error:
            raise server.RequestError(503, str(error), {"Retry-After": "5"}) from error
        except (redis.exceptions.RedisError, ConnectionError) as error:
            raise server.RequestError(
                503, "the online store cannot be reached", {"Retry-After": "1"}
            ) from error
        except TimeoutError as error:
            raise server.RequestError(504, "the answer took too long") from error

    return server.answering(answer)


async def read(request: Request, kind: type[T]) -> T:
    """Read and decode a JSON body; raise `services.runtime.web.server.RequestError`."""
    raw = await server.read_body(request, BODY_BYTES_MAX)
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise server.RequestError(400, str(error)) from error


def choose(served: Mapping[str, Endpoint], name: str | msgspec.UnsetType, request: Request) -> Endpoint:
    """Return the model that is asked, the only one by default, if the request's team may ask it."""
    own = visible(served, request)
    if name is msgspec.UNSET and len(own) == 1:
        return next(iter(own.values()))
    if name is msgspec.UNSET:
        raise server.RequestError(400, f"model: name one of {', '.join(own) or 'those served: none'}")
    if name not in served:
        raise server.RequestError(404, f"model: {name!r} is not served; known are {', '.join(own)}")
    if name not in own:
        raise server.RequestError(403, f"model: {name!r} is another team's")
    return own[name]


def visible(served: Mapping[str, Endpoint], request: Request) -> dict[str, Endpoint]:
    """Return the models that the request's team may ask."""
    return {
        name: endpoint
        for name, endpoint in served.items()
        if authentication.may_ask(request.scope, endpoint.declaration.team)
    }


def check_count(what: str, count: int, limits: Limits) -> None:
    """Raise `RequestError` for none, or for more than the model allows at once."""
    if not 1 <= count <= limits.rows_max:
        raise server.RequestError(400, f"{what}: 1 to {limits.rows_max} are taken at once, got {count}")


def check_explained(count: int, *, explained: bool) -> None:
    """Raise `RequestError` for more rows than are explained at once."""
    if explained and count > explainer.ROWS_MAX:
        raise server.RequestError(400, f"explain: at most {explainer.ROWS_MAX} rows at once, got {count}")


def decode(decoder: codec.EventDecoder, what: str, rows: Sequence[msgspec.Raw]) -> list[Any]:
    """Decode the rows of a body by a declared schema; an error names the row."""
    events = []
    for index, row in enumerate(rows):
        try:
            events.append(decoder.decode(row))
        except codec.InvalidRecordError as error:
            raise server.RequestError(400, f"{what}[{index}]: {error}") from error
    return events


def as_json(document: object, status: int = 200) -> Response:
    """Make a response of anything that msgspec can encode."""
    return Response(msgspec.json.encode(document), status, media_type="application/json")
