"""``driftline features backfill``: write the past of the stream views for Feast's offline store."""

import datetime as dt
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

from services.settings import Settings
from streams import codec

if TYPE_CHECKING:
    from rich.progress import TaskID

    from services.features.offline.backfill import Account

_SHARE = 0.25
"""Without a terminal, a line for each such part of a step."""


def backfill(*, view: list[str] | None = None, until: dt.datetime | None = None) -> None:
    """Run the stream views over the archived events, and write the files of their batch sources.

    Afterwards Feast's get_historical_features returns, at every event time, what was served online. A file is
    replaced at once, when it is complete; to repeat this is harmless.

    Args:
        view: Only this stream view; may be given several times.
        until: Leave out what happened after this moment (UTC).
    """
    from services import feature_plan
    from services.feature_plan import PlanError
    from services.features.offline import backfill as offline
    from services.features.offline.archived import ArchiveError
    from services.features.offline.timeline import END_MS

    settings = Settings()
    until_ms = (
        END_MS if until is None else codec.epoch_ms(until if until.tzinfo else until.replace(tzinfo=dt.UTC))
    )
    try:
        plan = feature_plan.load(settings)
        with _Progress() as progress:
            accounts = offline.run(settings, plan, progress.report, views=view or (), until_ms=until_ms)
    except (PlanError, ArchiveError) as error:
        sys.exit(f"driftline features backfill: {error}")
    for account in accounts:
        print(_line(account))  # noqa: T201  # the command's answer


def _line(account: "Account") -> str:
    left_out = f"{account.late} late, {account.invalid} invalid, {account.no_entity} without entity"
    return (
        f"ok  {account.view}: {account.events} events ({left_out}) of {account.entities} entities -> "
        f"{account.rows} rows in {account.path}"
    )


class _Progress:
    """Bars on a terminal, otherwise a line now and then."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self._console = Console(stderr=True)
        self._bars = Progress(console=self._console) if self._console.is_terminal else None
        self._tasks: dict[str, TaskID] = {}
        self._told: dict[str, float] = {}

    def __enter__(self) -> Self:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars:
            self._bars.stop()

    def report(self, step: str, done: int, total: int) -> None:
        """Show how far a step is."""
        if self._bars:
            if step not in self._tasks:
                self._tasks[step] = self._bars.add_task(step, total=total)
            self._bars.update(self._tasks[step], completed=done, total=total)
        elif done >= min(total, self._told.get(step, 0.0) + _SHARE * total):
            self._told[step] = done
            self._console.print(f"{step}: {done} of {total}", highlight=False)
