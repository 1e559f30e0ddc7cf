"""The features process for tests, ended or stopped at a named point.

Environment: FAULT_POINT is ``mid batch`` (half of a slice's rows are written), ``written`` (all of them,
but no progress), ``progressed`` (the progress too, but no offset is committed) or ``before write``
(nothing yet); FAULT_SIGNAL the signal that the process sends itself there, the FAULT_COUNT-th time.
"""

import os
from collections.abc import Sequence

from services.features import row_store
from services.features.process import FeaturesProcess
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
        self, position: row_store.ViewPosition, field: bytes, writes: Sequence[row_store.EntityWrite]
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
        self, updates: Sequence[row_store.ProgressUpdate]
    ) -> list[row_store.ViewProgress]:
        self.reach("written")
        progress = await super().update_progress(updates)
        self.reach("progressed")
        return progress


def main() -> None:
    """Run until something happens."""
    settings = Settings()
    logs.configure_logging("features", settings.log_level)
    FeaturesProcess(settings, FaultyStore.connect(settings)).run()


if __name__ == "__main__":
    main()
