"""``driftline dead-letters list`` and ``driftline dead-letters replay``."""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

import msgspec
from cyclopts import Parameter

from services.operations.dead_letters import letters
from services.operations.dead_letters import replay as replaying
from services.operations.dead_letters.letters import LetterFilter, LetterSummary, ReplayProgress
from services.operations.dead_letters.topic_reader import LETTERS, LettersError, offset_at, read, reader
from services.runtime.command_output import failing_on, ok, say
from services.runtime.settings import Settings
from services.runtime.times import now_ms

COMMAND = "driftline dead-letters"
ROWS_MAX = 100
_Result = TypeVar("_Result")


def show(
    *,
    service: str | None = None,
    topic: str | None = None,
    since: str | None = None,
    limit: int = ROWS_MAX,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Show the newest dead letters, and the number of letters for each reason.

    Args:
        service: Only letters of this process.
        topic: Only letters whose record is from this topic.
        since: Only letters of the last 90s, 30m, 2h or 7d.
        limit: Maximum number of letters to show; all are counted.
        json: Print one JSON document.
    """
    chosen = _filter(service, topic, since)
    summary, progress = _run(_read(Settings(), chosen, limit))
    rows = summary.rows(progress)
    if json:
        say(msgspec.json.encode(letters.document(rows, summary.reasons)).decode())
    else:
        say(*letters.lines(rows, summary.reasons))


def replay(
    *,
    service: str | None = None,
    topic: str | None = None,
    since: str | None = None,
    limit: int | None = None,
    again: Annotated[bool, Parameter(negative="")] = False,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Write dead letters back to the topic and partition that they came from, each failed record once.

    Every reader of the topic receives them again: a reader that processed them the first time counts them
    twice. They keep their event times, so features may count them as late. A record that fails again becomes
    a new letter with the number of its replays.

    Args:
        service: Only letters of this process.
        topic: Only letters whose record is from this topic.
        since: Only letters of the last 90s, 30m, 2h or 7d.
        limit: Maximum number of records to write back, oldest first.
        again: Include records that have been replayed three times.
        dry_run: Only print what would be written.
    """
    chosen = _filter(service, topic, since)
    result = _run(replaying.replay(Settings(), chosen, records_max=limit, again=again, dry=dry_run))
    verb = "would be written" if dry_run else "written"
    for place, number in sorted(result.replayed.items()):
        ok(f"{number} {verb} to {place}")
    for reason, number in sorted(result.left.items()):
        say(f"    {number} not replayed: {reason}")
    say(f"{result.replayed.total()} {verb}, {result.left.total()} left")


async def _read(
    settings: Settings, chosen: LetterFilter, rows_max: int
) -> tuple[LetterSummary, ReplayProgress]:
    """Read all letters and the marks of their replays."""
    summary, progress = LetterSummary(rows_max), ReplayProgress()
    async with reader(settings) as consumer:
        start = 0 if chosen.since_ms is None else await offset_at(consumer, LETTERS, chosen.since_ms)
        async for piece in read(consumer, LETTERS, start):
            for record in piece:
                if record.value is None:
                    progress.take(record.headers)
                elif (letter := letters.decoded(record)) is not None and chosen.admits(letter):
                    summary.add(record.offset, letter)
    return summary, progress


def _filter(service: str | None, topic: str | None, since: str | None) -> LetterFilter:
    with failing_on(COMMAND, ValueError, about="--since"):
        since_ms = None if since is None else letters.since_ms(since, now_ms())
        return letters.LetterFilter(service, topic, since_ms)


def _run(work: Coroutine[Any, Any, _Result]) -> _Result:
    with failing_on(COMMAND, LettersError):
        return asyncio.run(work)
