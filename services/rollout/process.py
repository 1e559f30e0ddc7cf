"""The rollout process: leads new versions from shadow over canary shares to champion, or back.

Any number may run. They share the models (`services.runtime.model_ownership`), and read one only while its
rollout goes on. Delivery, for each slice that is read:

1. add predictions and labels to the evidence of the step; write dead letters, and wait;
2. take the verdict on the step; if it decides, write the record, the ledger entry, the arms and the aliases,
   in this order (`services.rollout.decisions`), and wait for each;
3. every few seconds write a snapshot of the evidence with the offsets of its inputs, and wait.

The offsets of the inputs are not committed to a consumer group: the snapshot holds them. After a crash, or
after a model has moved to another process, work continues from the last snapshot, and the records of the
rollout say what was decided and may have to be done again. That changes nothing if it was done.
"""

import functools

from services.rollout import session
from services.runtime import blocking_process, declaration_file
from services.runtime.quarantine import Quarantine
from services.runtime.settings import Settings


def run() -> None:
    """Run until SIGINT or SIGTERM."""
    settings = Settings()
    quarantine, undecided = Quarantine("rollout"), Quarantine("rollout")
    folder = declaration_file.DeclarationFolder(settings.models)
    opened = functools.partial(session.opened, settings, folder, quarantine, undecided)
    blocking_process.run(
        "rollout",
        settings,
        settings.rollout_port,
        opened,
        detail=lambda: {**quarantine.detail(), **undecided.detail()},
    )
