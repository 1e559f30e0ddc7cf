"""``driftline features replay``: rebuild views from their source topics.

The running workers notice within two seconds and read the sources again from the earliest offset that
retention has kept, while they continue with the other views. If no worker runs, the next one that starts does
it. Rows stay until each is overwritten. The public watermarks fall to the start and rise again.
"""

import asyncio
import sys
from typing import Annotated

from cyclopts import Parameter

from services.feature_store import repository
from services.feature_store.plan import FeaturePlan, PlanError
from services.features.generations import EARLIEST, NOW
from services.features.row_store import RowStore
from services.runtime.settings import Settings


def replay(
    *,
    view: Annotated[list[str] | None, Parameter(negative=())] = None,
    from_now: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Rebuild stream feature views from their source topics.

    Args:
        view: Only this view; may be given several times. Default: all.
        from_now: Delete the stored features and count only new events; read nothing again.
    """
    settings = Settings()
    try:
        plan = repository.load(settings)
        names = select_views(plan, view or [])
    except PlanError as error:
        sys.exit(f"driftline: {error}")
    for line in asyncio.run(begin_replay(settings, plan.project, names, from_now=from_now)):
        sys.stdout.write(f"{line}\n")


def select_views(plan: FeaturePlan, names: list[str]) -> list[str]:
    """Return the named stream views, by default all; raise `PlanError` for an unknown name."""
    known = [view.name for view in plan.views if view.is_stream]
    for name in names:
        if name not in known:
            raise PlanError(f"there is no stream view {name!r}; known are {', '.join(known) or 'none'}")
    return names or known


async def begin_replay(settings: Settings, project: str, names: list[str], *, from_now: bool) -> list[str]:
    """Begin a new generation of each view; return one line about each."""
    store = RowStore.connect(settings, project)
    start = NOW if from_now else EARLIEST
    lines = []
    async with store.running():
        for name, stored in zip(names, await store.generations(names), strict=True):
            if stored is None:
                lines.append(f"{name}: not stored yet; the features process builds it when it starts")
                continue
            await store.begin_generation(
                name, 0, expected=stored, definition=stored.definition, start=start, sweep=from_now
            )
            lines.append(f"{name}: rebuilding from {start}; progress: /health/ready of the features process")
    return lines
