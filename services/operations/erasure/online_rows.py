"""The rows of a subject in the online store: features with their states, of stream and of batch views."""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import redis.exceptions

from services.feature_store import erasures, feast_layout
from services.feature_store.plan import FeaturePlan, View
from services.features.view_progress import decode_progress, progress_key
from services.operations.erasure.subject import ErasureError, Subject
from services.runtime import redis_clients
from services.runtime.settings import Settings

SCAN_COUNT = 1000
REWRITE_SECONDS_MAX = 60.0
"""Maximum wait for the server to write its files again."""


@contextlib.contextmanager
def connected(settings: Settings) -> Iterator[Any]:
    """Yield a client of the online store.

    Raises:
        ErasureError: It cannot be reached.
    """
    try:
        with contextlib.closing(redis_clients.connect_blocking(settings)) as client:
            client.ping()
            yield client
    except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError) as error:
        raise ErasureError(
            f"the online store cannot be reached ({error}): start it, or set DRIFTLINE_REDIS_URL, and run it "
            "again"
        ) from error


def find(client: Any, project: str, subject: Subject) -> list[bytes]:
    """Return the keys of the subject's rows."""
    suffix = project.encode()
    return [
        key
        for key in client.scan_iter(match=b"*" + suffix, count=SCAN_COUNT)
        if feast_layout.project_of(key) == suffix and subject.is_in(feast_layout.entity_of(key) or {})
    ]


def delete(client: Any, keys: Sequence[bytes]) -> None:
    """Delete rows at once."""
    for key in keys:  # one by one: on a cluster each may be on another node
        client.delete(key)


def rewrite_files(client: Any) -> str:
    """Let the server write its own files again: they hold deleted rows. Return what is left to do."""
    try:
        _rewrite(client)
    except redis.exceptions.ResponseError as error:
        return f"the server's own files may hold deleted rows until it writes them again ({error})"
    return ""


def _rewrite(client: Any) -> None:
    if client.config_get("appendonly").get("appendonly") == "yes":
        client.bgrewriteaof()
        _wait(client, "aof_rewrite_in_progress", "aof_rewrite_scheduled")
    if client.config_get("save").get("save"):
        client.bgsave(schedule=True)
        _wait(client, "rdb_bgsave_in_progress")


def _wait(client: Any, *fields: str) -> None:
    stop = time.monotonic() + REWRITE_SECONDS_MAX
    while any(client.info("persistence").get(field) for field in fields):
        if time.monotonic() > stop:
            raise redis.exceptions.ResponseError("it is still writing them")
        time.sleep(0.05)


def give_notice(client: Any, project: str) -> None:
    """Let the features processes read the erasures again; see `erasures.notice_key`."""
    client.incr(erasures.notice_key(project))


def unread(
    client: Any, plan: FeaturePlan, views: Sequence[View], prefix: str, ends: Mapping[str, Sequence[int]]
) -> int:
    """Return how many records the views have still to apply, up to the given ends.

    Args:
        client: The online store.
        plan: The applied repository.
        views: Stream views.
        prefix: Stage whose progress counts, ``source`` or ``view``.
        ends: End offset of each partition of the stage's topic, by view.
    """
    lacking = 0
    for view in views:
        stored = client.hgetall(progress_key(plan.project, view.name))
        for partition, end in enumerate(ends[view.name]):
            progress = decode_progress(stored.get(f"{prefix}-{partition}".encode()))
            lacking += max(end - progress.next_offset, 0)
    return lacking
