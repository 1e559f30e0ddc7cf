"""Bearer-token authentication of HTTP APIs: which team a caller belongs to, and its request rate."""

import hashlib
import hmac
import math
from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from services.runtime.settings import Token
from services.runtime.web.rate_limits import Limit
from services.runtime.web.request_ids import error_response

OPEN_PATHS = frozenset({"/health/live", "/health/ready", "/metrics", "/v2/health/live", "/v2/health/ready"})
"""Paths that orchestrators and Prometheus request without a token."""
TEAM = "driftline.team"
"""Key of the ASGI scope that holds the token's team; absent if no tokens are configured."""


class TokenAuth:
    """ASGI middleware: every path except `OPEN_PATHS` needs a known token and stays within the rate limit."""

    def __init__(
        self,
        app: ASGIApp,
        tokens: Sequence[Token] = (),
        limit: Limit | None = None,
    ) -> None:
        """Admit callers that send one of these tokens; without tokens, admit all callers."""
        self._app = app
        self._tokens = tuple(tokens)
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond with 401 or 429, or pass the request on with the token's team in the scope."""
        if scope["type"] == "lifespan" or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        token = self._find(scope["headers"]) if self._tokens else None
        if self._tokens and token is None:
            challenge = {"WWW-Authenticate": 'Bearer realm="driftline"'}
            message = "a valid bearer token is required in the header Authorization"
            await error_response(scope, 401, message, challenge)(scope, receive, send)
            return
        wait_seconds = await self._limit.take(_caller(scope, token)) if self._limit else 0.0
        if wait_seconds:
            retry_seconds = math.ceil(wait_seconds)
            message = f"the rate limit is exceeded; retry after {retry_seconds} s"
            headers = {"Retry-After": str(retry_seconds)}
            await error_response(scope, 429, message, headers)(scope, receive, send)
            return
        if token is not None:
            scope[TEAM] = token.team
        await self._app(scope, receive, send)

    def _find(self, headers: Sequence[tuple[bytes, bytes]]) -> Token | None:
        sent = [value for name, value in headers if name == b"authorization"]
        scheme, _, secret = sent[0].partition(b" ") if len(sent) == 1 else (b"", b"", b"")
        digest = hashlib.sha256(secret.strip()).digest()
        # Compare with every token, each in constant time: the duration reveals nothing about the tokens.
        known = [token for token in self._tokens if hmac.compare_digest(digest, token.digest)]
        return known[0] if known and scheme.lower() == b"bearer" else None


def _caller(scope: Scope, token: Token | None) -> bytes:
    if token is not None:
        return token.digest
    client = scope.get("client")
    return client[0].encode() if client else b""


def is_allowed(scope: Scope, team: str) -> bool:
    """Return whether a request may use a resource of a team.

    A resource of the team '' is open to all callers; so is every resource if no tokens are configured.
    """
    return not team or scope.get(TEAM, team) == team
