"""REST: a thin adapter to the same inference path that the Kafka agent takes.

``POST /predict`` takes ``{"model": "arrival_delay", "rows": [{...}, ...]}``, each row a request as
model.yaml declares it (``model`` may be left out where only one is served), and answers
``{"model": ..., "predictions": [{"prediction_id", "version", "arm", "score", "prediction"}, ...]}``.
Errors: 400 bad input, with row and field; 404 unknown model; 503 overload or no model yet; 500 a
defect, with a reference to the log and no internals.
"""

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services import telemetry, web
from services.scoring.engine import Scorer
from services.scoring.routing import NOBODY
from streams import codec

CONCURRENT_REQUESTS_MAX = 64
"""More would only wait in line: one event loop scores about as fast with 8."""
ROWS_MAX = 1000
BODY_BYTES_MAX = 4 << 20


Served = Callable[[], Mapping[str, Scorer]]
"""Returns what answers now, by model."""


class _Body(msgspec.Struct):
    rows: list[dict[str, object]]
    model: str | None = None


class UnanswerableError(RuntimeError):
    """No answer can be given now: no model is in effect."""


class Overload(Exception):  # noqa: N818  # a state, not an error of ours
    """Too many requests at once."""


class _Places:
    """A bound on the requests at work."""

    def __init__(self, places: int) -> None:
        self._free = places

    @contextlib.asynccontextmanager
    async def take(self) -> AsyncIterator[None]:
        if self._free == 0:
            raise Overload
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


def routes(served: Served) -> list[Route]:
    """Make the routes of the scoring process; what is served may change at any time."""
    places = _Places(CONCURRENT_REQUESTS_MAX)

    async def predict(request: Request) -> Response:
        try:
            async with places.take():
                return await _predict(served(), request)
        except codec.InvalidRecordError as error:
            raise web.RequestError(400, str(error)) from error
        except (Overload, TimeoutError) as error:
            raise web.RequestError(503, "overloaded, try again", {"Retry-After": "1"}) from error
        except UnanswerableError as error:
            raise web.RequestError(503, str(error), {"Retry-After": "5"}) from error

    return [Route("/predict", web.answering(predict), methods=["POST"])]


async def _predict(scorers: Mapping[str, Scorer], request: Request) -> Response:
    began = time.perf_counter()
    body = _parse(await web.read_body(request, BODY_BYTES_MAX))
    scorer = _choose(scorers, body.model)
    events = []
    for index, row in enumerate(body.rows):
        try:
            events.append(scorer.decoder.convert(row))
        except codec.InvalidRecordError as error:
            raise web.RequestError(400, f"rows[{index}]: {error}") from error
    answers = await _answer(scorer, events)
    telemetry.PREDICTION_DURATION.labels(scorer.name, "rest").observe(time.perf_counter() - began)
    return JSONResponse({"model": scorer.name, "predictions": answers})


async def _answer(scorer: Scorer, events: Sequence[Any]) -> list[dict[str, Any]]:
    """Score requests that wait for an answer; nothing is awaited but the store and the model."""
    scored = await scorer.score(events, replay=False)
    if (scored.arm_of == NOBODY).any():
        raise UnanswerableError(f"{scorer.name} has no model in effect at that event time yet")
    if scored.failed:
        row, reason = next(iter(scored.failed.items()))
        raise RuntimeError(f"row {row}: {reason}")
    answers = scorer.task.answers(scored.outputs)
    return [
        {
            "prediction_id": scored.ids[row],
            "version": scored.arm(row).version,
            "arm": scored.arm(row).name,
            "score": answers.scores[row],
            "prediction": answers.predictions[row],
        }
        for row in range(len(events))
    ]


def _parse(raw: bytes) -> _Body:
    try:
        body = msgspec.json.decode(raw, type=_Body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise web.RequestError(400, str(error)) from error
    if not 1 <= len(body.rows) <= ROWS_MAX:
        raise web.RequestError(400, f"rows: 1 to {ROWS_MAX} are taken at once, got {len(body.rows)}")
    return body


def _choose(scorers: Mapping[str, Scorer], name: str | None) -> Scorer:
    if name is None and len(scorers) == 1:
        return next(iter(scorers.values()))
    if name is None:
        raise web.RequestError(400, f"model: several are served, name one of {', '.join(scorers)}")
    if name not in scorers:
        raise web.RequestError(404, f"model: {name!r} is not served; known are {', '.join(scorers)}")
    return scorers[name]
