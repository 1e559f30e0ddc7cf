"""Sends messages through apprise, with one PagerDuty incident per model and destination."""

import logging
from collections.abc import Mapping

from services.alerting.messages import Message
from streams.records import Severity

TYPES: Mapping[Severity | None, str] = {
    None: "success",
    "info": "info",
    "warning": "warning",
    "critical": "failure",
}


class SendingError(Exception):
    """A destination did not accept a message. The text may contain host names: show it only to operators."""


def send(url: str, message: Message) -> None:
    """Send a message; return when the destination has accepted it.

    Waits up to apprise's timeouts ``cto`` and ``rto`` in the URL: by default 4 seconds each, 15 for mail.

    Raises:
        SendingError: The message was not accepted, or apprise does not know the URL.
    """
    import apprise

    with apprise.LogCapture(level=logging.WARNING) as log:
        # A new object for each message: apprise waits between two messages of the same object.
        service = apprise.Apprise.instantiate(_in_thread(url, message.thread), suppress_exceptions=True)
        if service is None:
            raise SendingError("apprise does not know this URL")
        accepted = service.notify(
            title=message.title,
            body=message.body,
            notify_type=apprise.NotifyType(TYPES[message.severity]),
            body_format=apprise.NotifyFormat.TEXT,
        )
        reason = log.getvalue().strip()
    if not accepted:
        raise SendingError(
            reason.splitlines()[-1] if reason else "the destination did not accept the message"
        )


def _in_thread(url: str, thread: str) -> str:
    """Make PagerDuty keep one incident per thread and close it, unless the URL configures that itself."""
    if not url.startswith("pagerduty://") or "dedup=" in url or "action=" in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}action=map&dedup={thread}"
