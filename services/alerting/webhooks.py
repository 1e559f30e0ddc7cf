"""Alerts for programs, above all for CI: each is one POST with a JSON body and a token.

The body has the form that ``repository_dispatch`` of GitHub takes; others read its fields by their path.
A destination is ``webhook+https://TOKEN@host/path`` or, inside a cluster, ``webhook+http://``.
"""

from typing import Any

from services.alerting.alert_state import MessagePart
from services.alerting.delivery import SendingError

SCHEMES = ("webhook+https", "webhook+http")
SECONDS_MAX = 10.0
"""Maximum time to connect, and between two bytes of the answer."""
ACCEPTED = range(200, 300)

Body = dict[str, Any]


def is_webhook(url: str) -> bool:
    """Tell whether the URL of a destination is that of a webhook."""
    return url.partition("://")[0] in SCHEMES


def key_of(part: MessagePart) -> str:
    """Return the key of idempotency: the same at each attempt, also after a restart.

    For a retraining it is its request id and what has happened, for example ``nightly-1-promoted``.
    """
    return (
        part.alert.alert_id
        if part.occasion == "new"
        else f"{part.alert.alert_id}-{part.occasion}-{part.times}"
    )


def body_of(part: MessagePart) -> Body:
    """Return the body of an alert; GitHub takes at most ten fields in ``client_payload``."""
    alert = part.alert
    return {
        "event_type": f"driftline.{alert.kind}.{alert.event or part.occasion}",
        "client_payload": {
            "id": key_of(part),
            "model": alert.model,
            "request_id": alert.request_id,
            "event": alert.event or part.occasion,
            "version": alert.version,
            "severity": alert.severity,
            "title": alert.title,
            "subject": alert.subject,
            "segment": alert.segment,
            "at_ms": alert.at_ms,
        },
    }


def send(url: str, key: str, body: Body) -> None:
    """Post one body; return when the receiver has answered with a status from 200 to 299.

    Raises:
        SendingError: Any other answer, or none in time. The text has neither address nor token.
    """
    import httpx

    headers = {"Idempotency-Key": key}
    try:
        address = httpx.URL(url.removeprefix("webhook+"))
        if address.username:
            headers["Authorization"] = f"Bearer {address.username}"
        address = address.copy_with(userinfo=b"")
        status = httpx.post(address, json=body, headers=headers, timeout=SECONDS_MAX).status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise SendingError(f"the webhook cannot be reached: {type(error).__name__}") from error
    if status not in ACCEPTED:
        raise SendingError(f"the webhook answered with status {status}")
