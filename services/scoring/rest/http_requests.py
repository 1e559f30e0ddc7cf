"""What all REST routes share: the choice of the model, access by team, and the status of each error.

400 invalid input, with its position; 401 no valid token; 403 another team's model; 404 unknown; 408 the body
arrived too slowly; 413 the body or a label is too large; 415 the body is not JSON; 422 a row that cannot be
predicted: a feature with ``missing: reject`` is missing, it has too much text to be logged, the model fails
on it, no version was in effect at its event time, or that time is ahead of the clock, which is not allowed
for labels either; 429 the token's rate limit is exceeded; 500 a defect, with a reference to the log and no
internals; 501 an optional package is not installed; 503 overload, no version in effect yet or none that could
be loaded, a server that cannot be reached, or shutdown; 504 the prediction took too long.
"""

import dataclasses
import importlib.metadata
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from services.runtime.declaration import Limits
from services.runtime.web import authentication, server
from services.scoring.arm_router import UnknownVersionError
from services.scoring.explanations import explainer, shap_values
from services.scoring.load_failures import VersionNotLoadedError
from services.scoring.online_predictor import (
    NoModelError,
    OnlinePredictions,
    OnlinePredictor,
    OverloadError,
    RejectedInputError,
)
from streams import codec, outages
from streams.json_decoder import JsonDecoder

VERSION = importlib.metadata.version("driftline")
BODY_BYTES_MAX = 4 << 20

Predictors = Callable[[], Mapping[str, OnlinePredictor]]
"""Returns what is served now, by model; it may change at any time."""
Absent = Callable[[], Mapping[str, str]]
"""Returns why a declared model is not served now, by model."""
T = TypeVar("T")


_STATUSES: Sequence[tuple[type[Exception], int]] = (
    (codec.InvalidRecordError, 400),
    (UnknownVersionError, 404),
    (RejectedInputError, 422),
    (shap_values.NotInstalledError, 501),
)
"""Errors whose message is the caller's, with their status."""


def handle_errors(handle: server.Handler) -> server.Handler:
    """Turn every error of the inference path into its status; see the module's docstring."""

    async def respond(request: Request) -> Response:
        try:
            return await handle(request)
        except Exception as error:
            found = _request_error(error)
            if found is None:
                raise
            raise found from error

    return server.handle_errors(respond)


def _request_error(error: Exception) -> server.RequestError | None:
    """Return what the caller gets; None for an error that has its status already, and for a defect."""
    if isinstance(error, TimeoutError):
        return server.RequestError(504, "the request took longer than the time limit")
    for kind, status in _STATUSES:
        if isinstance(error, kind):
            return server.RequestError(status, str(error))
    if isinstance(error, OverloadError | NoModelError | explainer.NoBackgroundError | outages.OutageError):
        return unavailable(str(error), _retry_seconds(error))
    if outages.is_outage(error):
        return unavailable("the online feature store cannot be reached; retry")
    return None


def _retry_seconds(error: Exception) -> int:
    if isinstance(error, VersionNotLoadedError):
        return max(1, math.ceil(error.retry_seconds))
    return 5 if isinstance(error, NoModelError) else 1


def unavailable(message: str, retry_seconds: int = 1) -> server.RequestError:
    """Return the response while something is away: the same request may be sent again."""
    return server.RequestError(503, message, {"Retry-After": str(retry_seconds)})


async def read(request: Request, decoder: JsonDecoder[T]) -> T:
    """Return the decoded JSON body; raise `services.runtime.web.server.RequestError`."""
    raw = await server.read_body(request, BODY_BYTES_MAX)
    try:
        return decoder.decode(raw)
    except codec.InvalidRecordError as error:
        raise server.RequestError(400, str(error)) from error


@dataclasses.dataclass(frozen=True)
class ServedModels:
    """The models of the process, as they are now."""

    predictors: Predictors
    absent: Absent = dict


def choose(models: ServedModels, name: str | msgspec.UnsetType, request: Request) -> OnlinePredictor:
    """Return the named model, by default the only one, if the request's team may use it."""
    predictors, absent = models.predictors(), models.absent()
    allowed = visible(predictors, request)
    if name is msgspec.UNSET and len(allowed) == 1:
        return next(iter(allowed.values()))
    names = ", ".join(allowed) or "none"
    if name is msgspec.UNSET and not predictors and absent:
        raise unavailable(
            "model: " + "; ".join(f"{each!r} {why}" for each, why in absent.items()) + "; retry"
        )
    if name is msgspec.UNSET:
        raise server.RequestError(400, f"model: a name is required; the models served are: {names}")
    if name not in predictors and name in absent:
        raise unavailable(f"model: {name!r} {absent[name]}; retry")
    if name not in predictors:
        raise server.RequestError(404, f"model: {name!r} is not served; the models served are: {names}")
    if name not in allowed:
        raise server.RequestError(403, f"model: {name!r} belongs to another team")
    return allowed[name]


def visible(predictors: Mapping[str, OnlinePredictor], request: Request) -> dict[str, OnlinePredictor]:
    """Return the models that the request's team may use."""
    return {
        name: predictor
        for name, predictor in predictors.items()
        if authentication.is_allowed(request.scope, predictor.declaration.team)
    }


def check_count(field: str, count: int, limits: Limits) -> None:
    """Raise `RequestError` for no rows, or more rows than the model allows in one request."""
    if not 1 <= count <= limits.rows_max:
        message = f"{field}: a request must have 1 to {limits.rows_max} entries, got {count}"
        raise server.RequestError(400, message)


def check_explained(count: int, *, explained: bool) -> None:
    """Raise `RequestError` for more rows than can be explained in one request."""
    if explained and count > explainer.ROWS_MAX:
        message = f"explain: a request may have at most {explainer.ROWS_MAX} rows, got {count}"
        raise server.RequestError(400, message)


def decode(decoder: codec.EventDecoder, field: str, rows: Sequence[msgspec.Raw]) -> list[Any]:
    """Decode the rows of a body by a declared schema; an error names the row."""
    events = []
    for index, row in enumerate(rows):
        try:
            events.append(decoder.decode(row))
        except codec.InvalidRecordError as error:
            raise server.RequestError(400, f"{field}[{index}]: {error}") from error
    return events


def answer(
    request: Request, predictor: OnlinePredictor, predictions: OnlinePredictions, document: object
) -> Response:
    """Return the response with these predictions, and log them, unless the caller has gone."""
    response = as_json(document)
    if not server.has_gone(request):
        predictor.log(predictions)
    return response


def as_json(document: object, status: int = 200) -> Response:
    """Return a response with any value that msgspec can encode."""
    return Response(msgspec.json.encode(document), status, media_type="application/json")
