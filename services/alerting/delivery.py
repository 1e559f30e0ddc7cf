"""Sends a message through apprise, and knows what its services can do beyond that."""

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
    """A destination did not take a message. The text may name hosts: for the operator's eyes only."""


def send(url: str, message: Message) -> None:
    """Send a message; return when the other side has taken it.

    Waits as long as the URL's ``cto`` and ``rto`` say, of apprise: 4 seconds each, 15 for mail.

    Raises:
        SendingError: It was not taken, or the URL is none that apprise knows.
    """
    import apprise

    with apprise.LogCapture(level=logging.WARNING) as said:  # type: ignore[no-untyped-call]  # has no types
        # Made anew each time: apprise waits between two messages of the same object.
        service = apprise.Apprise.instantiate(_in_thread(url, message.thread), suppress_exceptions=True)
        if service is None:
            raise SendingError("apprise does not know this URL")
        taken = service.notify(
            title=message.title,
            body=message.body,
            notify_type=apprise.NotifyType(TYPES[message.severity]),
            body_format=apprise.NotifyFormat.TEXT,
        )
        reason = said.getvalue().strip()
    if not taken:
        raise SendingError(reason.splitlines()[-1] if reason else "it was not taken")


def _in_thread(url: str, thread: str) -> str:
    """Let PagerDuty keep one incident a thread, and close it when all is well, unless the URL says more."""
    if not url.startswith("pagerduty://") or "dedup=" in url or "action=" in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}action=map&dedup={thread}"
