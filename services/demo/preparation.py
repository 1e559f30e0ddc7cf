"""Prepares the features in a separate process, because Feast costs seconds of imports and 200 MB.

``python -m services.demo.preparation WORLD``, with the settings in the environment.
"""

import datetime as dt
import sys

from services.demo.worlds import WORLDS
from services.feature_store import repository
from services.runtime.settings import Settings


def main() -> None:
    """Write the files that Feast materialises, apply the repository, materialise."""
    settings, world = Settings(), WORLDS[sys.argv[1]]
    world.write_sources(settings.home.resolve() / "batch")
    repository.apply(settings)
    end = dt.datetime.fromtimestamp(world.calendar.start_ms / 1000, dt.UTC) + dt.timedelta(days=1)
    repository.materialize(settings, end)


if __name__ == "__main__":
    main()
