"""``driftline features backfill``: run the stream views over the archive."""

import datetime as dt
import sys
from typing import Annotated

from cyclopts import Parameter

from services.feature_store import repository
from services.feature_store.plan import PlanError
from services.features.offline.archived_events import ArchiveError
from services.features.offline.backfill import BackfillResult, run
from services.features.offline.progress_bars import ProgressBars
from services.features.offline.timeline import END_MS
from services.runtime.command_output import say
from services.runtime.settings import Settings
from streams import codec


def backfill(
    *, view: Annotated[list[str] | None, Parameter(negative="")] = None, until: dt.datetime | None = None
) -> None:
    """Run the stream views over the archived events, and write the files of their batch sources.

    Afterwards Feast's get_historical_features returns, for every event time, the values that were served
    online. Each file is replaced atomically when it is complete, so the command can be repeated.

    Args:
        view: Only this stream view; may be given several times.
        until: Leave out events after this time (UTC).
    """
    settings = Settings()
    until_ms = (
        END_MS if until is None else codec.epoch_ms(until if until.tzinfo else until.replace(tzinfo=dt.UTC))
    )
    try:
        plan = repository.load(settings)
        with ProgressBars() as progress:
            results = run(settings, plan, progress.report, views=view or (), until_ms=until_ms)
    except (PlanError, ArchiveError) as error:
        sys.exit(f"driftline features backfill: {error}")
    say(*map(_result_line, results))


def _result_line(result: BackfillResult) -> str:
    left_out = f"{result.late} late, {result.invalid} invalid, {result.no_entity} without entity"
    return (
        f"ok  {result.view}: {result.events} events ({left_out}) of {result.entities} entities -> "
        f"{result.rows} rows in {result.path}"
    )
