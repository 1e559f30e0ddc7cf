"""The drift process, one per installation: reads predictions and labels, writes the outputs of `engine`.

Delivery, for each slice that is read:

1. add the records to the engine, then let it advance to the frontier;
2. write outcomes and dead letters, and wait until they are acknowledged;
3. write reports and alarms, and wait; then retraining requests, and wait;
4. publish the watermark ``drift.<model>`` in Redis;
5. when one is due, write a snapshot of the state with the offsets of its inputs, and wait.

Nothing is committed to a consumer group: the snapshot contains the offsets, so state and offsets cannot
disagree. After a crash the process restarts from the last snapshot and writes the later outputs again, with
equal ids and source offsets; readers drop such repeats (`streams.repeats.RepeatFilter`, ids).

`run` reads predictions and labels itself; exactly one such process runs at a time (Recreate in Kubernetes).
Where one process is too slow, any number of processes `gather`: they share the partitions, decode and check
the records (`gather_worker`), and one process, `judge`, evaluates their slices. A second evaluating process
would write every record twice, which is harmless but useless. Both ways write the same records, and a
snapshot of one continues in the other.
"""

import functools
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

from services.drift import gather_worker, session
from services.runtime import blocking_process, declaration_file
from services.runtime.declaration_file import DeclarationFolder
from services.runtime.quarantine import Quarantine
from services.runtime.settings import Settings

OpenDriftSession = Callable[
    [Settings, DeclarationFolder, Quarantine, threading.Event],
    AbstractContextManager[blocking_process.Session],
]


def run() -> None:
    """Read predictions and labels and evaluate them, until SIGINT or SIGTERM."""
    _run(session.open_session)


def gather() -> None:
    """Decode a share of the partitions into slices; any number of processes may run."""
    _run(gather_worker.open_session, follows_folder=False)


def judge() -> None:
    """Evaluate the slices that gathering workers write; one process runs."""
    _run(functools.partial(session.open_session, gathered=True))


def _run(open_session: OpenDriftSession, *, follows_folder: bool = True) -> None:
    """Run sessions; those that do not follow changes of the folder themselves end when there is one."""
    settings = Settings()
    quarantine = Quarantine("drift")
    folder = declaration_file.DeclarationFolder(settings.models)
    blocking_process.run(
        "drift",
        settings,
        settings.drift_port,
        functools.partial(open_session, settings, folder, quarantine),
        is_over=bool if follows_folder else lambda: bool(folder.refresh()),
        detail=quarantine.detail,
    )
