"""The features process with a fault: it sends itself a signal at a named point.

Environment: FAULT_POINT is ``before write`` (no row of a slice is written), ``mid batch`` (half of the rows
are), ``written`` (all rows, but no progress) or ``progressed`` (also the progress, but no offset is
committed). FAULT_SIGNAL is the signal, sent the FAULT_COUNT-th time that the point is reached.
With FAULT_SHOP, every view fails with an unexpected error on the events of this shop.
"""

import os
from collections.abc import Sequence
from typing import Any

from services.feature_store import repository
from services.features import row_store, view_progress
from services.features.process import FeaturesProcess
from services.features.view_state import Event, ViewLogic
from services.runtime import logs
from services.runtime.settings import Settings


class FaultyStore(row_store.RowStore):
    """The real store, with a signal at one point."""

    left = int(os.environ["FAULT_COUNT"])

    def reach(self, point: str) -> None:
        if point == os.environ["FAULT_POINT"]:
            type(self).left -= 1
            if type(self).left == 0:
                os.kill(os.getpid(), int(os.environ["FAULT_SIGNAL"]))

    async def write(
        self, position: view_progress.ViewPosition, field: bytes, writes: Sequence[row_store.EntityWrite]
    ) -> None:
        if len(writes) > 1:
            self.reach("before write")
            half = len(writes) // 2
            await super().write(position, field, writes[:half])
            self.reach("mid batch")
            await super().write(position, field, writes[half:])
        else:
            await super().write(position, field, writes)

    async def update_progress(
        self, updates: Sequence[view_progress.ProgressUpdate]
    ) -> list[view_progress.ViewProgress]:
        self.reach("written")
        progress = await super().update_progress(updates)
        self.reach("progressed")
        return progress


def fail_on(shop: str) -> None:
    """Let every view fail on the events of a shop."""
    real = ViewLogic.apply

    def apply(self: ViewLogic, state: Any, *events: Event) -> int:
        if any(event.value.shop == shop for event in events):
            raise OverflowError(f"{shop} does not fit")
        return real(self, state, *events)

    ViewLogic.apply = apply  # type: ignore[method-assign]  # the fault of this test


def main() -> None:
    """Run until stopped."""
    if shop := os.environ.get("FAULT_SHOP"):
        fail_on(shop)
    settings = Settings()
    logs.configure_logging("features", settings.log_level)
    FeaturesProcess(settings, FaultyStore.connect(settings, repository.load(settings).project)).run()


if __name__ == "__main__":
    main()
