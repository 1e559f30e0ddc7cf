"""The learning process: models that learn online from every label. Any number may run.

The processes share the models (`services.runtime.model_ownership`). Delivery, for each slice that is read:

1. add the records to the learner, then advance it to the frontier;
2. write dead letters and learned models, and wait until they are acknowledged;
3. write what their gates found to the ledger, each finding once, and wait;
4. add those that passed to the latest arms in the models topic unless they are included, and wait;
5. publish the watermark ``learning.<model>`` in Redis;
6. every few seconds write a checkpoint of the state with the offsets of its inputs, and wait.

The offsets of the inputs are not committed to a consumer group: the checkpoint holds them. After a crash the
process resumes from the last checkpoint and writes everything after it again, byte for byte the same: a
learned model replaces its equal. A version is not announced twice: the latest change says which intervals its
arms include. Arms that operators have added are kept (`services.learning.arms_update`).

A model that moves to another process continues from its last checkpoint in the same way.
"""

import functools

from services.feature_store.plan_watch import PlanWatch
from services.learning import session
from services.runtime import blocking_process, declaration_file
from services.runtime.quarantine import Quarantine
from services.runtime.settings import Settings


def run() -> None:
    """Run until SIGINT or SIGTERM."""
    settings = Settings()
    quarantine = Quarantine("learning")
    folder = declaration_file.DeclarationFolder(settings.models)
    opened = functools.partial(session.opened, settings, folder, quarantine)
    plan = PlanWatch(settings)
    blocking_process.run(
        "learning",
        settings,
        settings.learning_port,
        opened,
        is_over=plan.refresh,
        detail=quarantine.detail,
    )
