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

`run` reads predictions and labels itself; one such process runs, and is replaced, never doubled (Recreate in
Kubernetes). Where that is too slow, any number of processes `gather`: they share the partitions, decode and
check (`gathering`), and one that judges reads their slices. A second one that judges would write everything
twice: harmless, and useless. The records are the same either way, and a state goes on in both.
"""

import functools
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from services.drift import gather_worker, session
from services.runtime import blocking_process, declaration_file
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import Settings


def run() -> None:
    """Read predictions and labels and judge them, until SIGINT or SIGTERM."""
    _run(session.opened)


def gather() -> None:
    """Decode a share of the partitions into slices, as any number of processes may."""
    _run(gather_worker.opened)


def judge() -> None:
    """Judge what others gather, as one process does."""
    _run(functools.partial(session.opened, gathered=True))


def _run(
    opened: Callable[
        [Settings, Mapping[str, ModelDeclaration], threading.Event],
        AbstractContextManager[blocking_process.Session],
    ],
) -> None:
    settings = Settings()
    declarations = declaration_file.load_all(settings.models)
    blocking_process.run(
        "drift", settings, settings.drift_port, functools.partial(opened, settings, declarations)
    )
