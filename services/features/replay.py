"""``driftline features replay``: build views anew from their sources.

The running workers notice within two seconds and read the sources again from the earliest offset that
the broker has, while they go on with the other views; without any, the next one that starts does it.
Rows stay as they are until they are written anew. The public watermarks fall to the start and rise again.
"""

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from services.runtime.settings import Settings

if TYPE_CHECKING:
    from services.feature_store.plan import FeaturePlan


def replay(
    *,
    view: Annotated[list[str] | None, Parameter(negative=())] = None,
    from_now: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Build stream feature views anew from their sources.

    Args:
        view: Only this one; may be given several times. Default: all.
        from_now: Delete what was, and count from now on, without reading anything again.
    """
    from services.feature_store import repository
    from services.feature_store.plan import PlanError

    settings = Settings()
    try:
        plan = repository.load(settings)
        names = chosen(plan, view or [])
    except PlanError as error:
        sys.exit(f"driftline: {error}")
    for line in asyncio.run(begin(settings, names, from_now=from_now)):
        sys.stdout.write(f"{line}\n")


def chosen(plan: "FeaturePlan", names: list[str]) -> list[str]:
    """Return the stream views meant, all of them by default; `PlanError` for one that is none."""
    from services.feature_store.plan import PlanError

    known = [view.name for view in plan.views if view.is_stream]
    for name in names:
        if name not in known:
            raise PlanError(f"there is no stream view {name!r}; known are {', '.join(known) or 'none'}")
    return names or known


async def begin(settings: Settings, names: list[str], *, from_now: bool) -> list[str]:
    """Begin a new generation of each view; return a line about each."""
    from services.features.generations import EARLIEST, NOW
    from services.features.row_store import FeatureStore

    store = FeatureStore.connect(settings)
    start = NOW if from_now else EARLIEST
    lines = []
    async with store.running():
        for name, build in zip(names, await store.builds(names), strict=True):
            if build is None:
                lines.append(f"{name}: nothing is stored; the features process builds it when it starts")
                continue
            await store.begin(
                name, 0, instead_of=build, definition=build.definition, start=start, sweep=from_now
            )
            lines.append(f"{name}: is built anew, from {start} on; see /health/ready of the features process")
    return lines
