"""The drift process: one per installation. Reads predictions and labels, writes what `engine` makes of them.

Delivery, for each slice that is read:

1. feed the engine, then let it advance to the frontier;
2. write outcomes and dead letters, and wait until they are acknowledged;
3. write reports and alarms, and wait; then requests for retraining, and wait;
4. publish the watermark ``drift.<model>`` in Redis;
5. from time to time write a snapshot of the state with the offsets of its inputs, and wait.

Nothing is committed to a consumer group: the snapshot holds the offsets, so state and offsets cannot
disagree. After a crash the process goes on from the last snapshot and writes what came after it again,
with equal ids and source offsets; readers drop such repeats (`streams.codec.RepeatFilter`, ids).

Partitions are assigned by hand and a second instance would write everything twice: run one, and let
it be replaced, never doubled (Recreate in Kubernetes).
"""

import functools

from services import joined, model
from services.drift import session
from services.settings import Settings


def run() -> None:
    """Run until SIGINT or SIGTERM."""
    settings = Settings()
    declarations = model.load_all(settings.models)
    opened = functools.partial(session.opened, settings, declarations)
    joined.run("drift", settings, settings.drift_port, opened)
