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

In the role ``both``, which is the default, a process reads predictions and labels itself; one runs, and is
replaced, never doubled (Recreate in Kubernetes). Where that is too slow, any number of processes ``gather``:
they share the partitions, decode and check (`gathering`), and one that judges reads their slices. A second
one that judges would write everything twice: harmless, and useless. The records are the same in all roles,
and a state goes on in any of them.
"""

import functools
from typing import Literal

from services import joined, model
from services.drift import gathering, session
from services.settings import Settings


def run(*, role: Literal["both", "gather", "judge"] = "both") -> None:
    """Run until SIGINT or SIGTERM.

    Args:
        role: ``gather``: decode a share of the partitions, as any number of processes may; ``judge``: make
            of what they decoded all that drift makes, as one process does; ``both``: in one process.
    """
    settings = Settings()
    declarations = model.load_all(settings.models)
    opened: joined.OpenSession
    if role == "gather":
        opened = functools.partial(gathering.opened, settings, declarations)
    else:
        opened = functools.partial(session.opened, settings, declarations, gathered=role == "judge")
    joined.run("drift", settings, settings.drift_port, opened)
