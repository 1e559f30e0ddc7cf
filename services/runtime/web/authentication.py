"""Who may ask an HTTP API, and how often: bearer tokens of teams, and a rate for each of them."""

import hashlib
import hmac
import math
from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from services.runtime.settings import Token
from services.runtime.web.rate_limits import Limit
from services.runtime.web.request_ids import error_response

OPEN_PATHS = frozenset({"/health/live", "/health/ready", "/metrics", "/v2/health/live", "/v2/health/ready"})
"""What orchestrators and Prometheus ask without a token."""
TEAM = "driftline.team"
"""Where the ASGI scope names the team of the token; absent where none is asked for."""


class Guard:
    """ASGI middleware: all but `OPEN_PATHS` needs a known token, if any are known, and keeps the rate."""

    def __init__(
        self,
        app: ASGIApp,
        tokens: Sequence[Token] = (),
        limit: Limit | None = None,
    ) -> None:
        """Let through whoever sends one of these tokens; without tokens, everybody."""
        self._app = app
        self._tokens = tuple(tokens)
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401 or 429, or hand the request on, with the team of its token in the scope."""
        if scope["type"] == "lifespan" or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        token = self._find(scope["headers"]) if self._tokens else None
        if self._tokens and token is None:
            challenge = {"WWW-Authenticate": 'Bearer realm="driftline"'}
            answer = error_response(scope, 401, "a valid bearer token is needed", challenge)
            await answer(scope, receive, send)
            return
        wait_seconds = await self._limit.take(_caller(scope, token)) if self._limit else 0.0
        if wait_seconds:
            after = {"Retry-After": str(math.ceil(wait_seconds))}
            answer = error_response(scope, 429, "too many requests, see Retry-After", after)
            await answer(scope, receive, send)
            return
        if token is not None:
            scope[TEAM] = token.team
        await self._app(scope, receive, send)

    def _find(self, headers: Sequence[tuple[bytes, bytes]]) -> Token | None:
        sent = [value for name, value in headers if name == b"authorization"]
        scheme, _, secret = sent[0].partition(b" ") if len(sent) == 1 else (b"", b"", b"")
        digest = hashlib.sha256(secret.strip()).digest()
        # All are compared, each in constant time: how long it takes tells nothing about the tokens.
        known = [token for token in self._tokens if hmac.compare_digest(digest, token.digest)]
        return known[0] if known and scheme.lower() == b"bearer" else None


def _caller(scope: Scope, token: Token | None) -> bytes:
    if token is not None:
        return token.digest
    client = scope.get("client")
    return client[0].encode() if client else b""


def may_ask(scope: Scope, team: str) -> bool:
    """Tell whether a request may ask what belongs to a team: '' is everybody's, as is all without tokens."""
    return not team or scope.get(TEAM, team) == team
