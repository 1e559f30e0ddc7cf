"""``POST /retrain/{model}``: a retraining by an HTTP call, with a bearer token.

The web server runs in its own thread. It hands a call to the session, which knows all requests and
writes to Kafka. So two calls with one id cannot both become a request. A call is answered once its record is
acknowledged; after a 503 the same call, with its id, is safe.
"""

import asyncio
import queue
from collections.abc import Callable
from concurrent.futures import Future

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.retraining.http_requests import RetrainingAnswer, RetrainingCall
from services.runtime.settings import Settings
from services.runtime.web import server
from streams.json_decoder import InvalidRecordError, JsonDecoder

BODY_BYTES_MAX = 16 << 10
"""A reason has at most 1,000 characters, and an id 100."""
CALLS_MAX = 100
"""Maximum calls that wait for the session."""
ANSWER_SECONDS_MAX = 10.0
"""Maximum wait for the session, which may be busy with results and aliases."""
RETRY_SECONDS = "5"

Decide = Callable[[str, RetrainingCall], RetrainingAnswer]
"""Answers the call for a model, after its request is written."""

_BODIES: JsonDecoder[RetrainingCall] = JsonDecoder(RetrainingCall)


class RequestInbox:
    """The calls that wait for the session, in order; used from both threads."""

    def __init__(self, calls_max: int = CALLS_MAX) -> None:
        """Start empty."""
        self._calls: queue.Queue[tuple[str, RetrainingCall, Future[RetrainingAnswer]]] = queue.Queue(
            calls_max
        )

    def put(self, model: str, call: RetrainingCall) -> "Future[RetrainingAnswer]":
        """Hand a call to the session; raise `RequestError` if `CALLS_MAX` wait."""
        future: Future[RetrainingAnswer] = Future()
        try:
            self._calls.put_nowait((model, call, future))
        except queue.Full as error:
            raise _unavailable(f"{self._calls.maxsize} calls wait already") from error
        return future

    def answer(self, decide: Decide) -> None:
        """Answer the calls that wait now. An error that is no `RequestError` is also raised.

        A call whose caller no longer waits is dropped.
        """
        for _ in range(self._calls.qsize()):
            model, call, future = self._calls.get_nowait()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(decide(model, call))
            except server.RequestError as refusal:
                future.set_exception(refusal)
            except Exception as error:
                future.set_exception(error)
                raise


def routes(settings: Settings, inbox: RequestInbox) -> list[Route]:
    """Return the route. It needs one of ``settings.retraining_tokens``; without any it is closed."""

    async def retrain(request: Request) -> Response:
        model = request.path_params["model"]
        if not settings.retraining_tokens:
            message = (
                "no token is configured: set DRIFTLINE_RETRAINING_TOKEN_DIGESTS to the SHA-256 of a token "
                f"and restart driftline retraining, or run driftline retrain {model}"
            )
            raise server.RequestError(403, message)
        answer = await _answered(inbox, model, await _call(request))
        status = 200 if answer.repeated else 202
        return Response(msgspec.json.encode(answer), status, media_type="application/json")

    return [Route("/retrain/{model}", server.handle_errors(retrain), methods=["POST"])]


async def _call(request: Request) -> RetrainingCall:
    raw = await server.read_body(request, BODY_BYTES_MAX)
    try:
        return _BODIES.decode(raw or b"{}")
    except InvalidRecordError as error:
        message = f'the body must be JSON such as {{"request_id": "nightly-1", "reason": "why"}}: {error}'
        raise server.RequestError(400, message) from error


async def _answered(inbox: RequestInbox, model: str, call: RetrainingCall) -> RetrainingAnswer:
    try:
        return await asyncio.wait_for(asyncio.wrap_future(inbox.put(model, call)), ANSWER_SECONDS_MAX)
    except TimeoutError as error:
        raise _unavailable("the process does not take requests now, see /health/ready") from error
    except server.RequestError:
        raise
    except Exception as error:
        raise _unavailable("the request could not be written to Kafka") from error


def _unavailable(reason: str) -> server.RequestError:
    message = f"{reason}; send it again with the same request_id"
    return server.RequestError(503, message, {"Retry-After": RETRY_SECONDS})
