"""The learning process: one per installation. Models that learn online from every label.

Delivery, for each slice that is read:

1. feed the learner, then let it advance to the frontier;
2. write dead letters and learned models, and wait until they are acknowledged;
3. add them to the arms of the model that stand in the models topic, unless those know them, and wait;
4. publish the watermark ``learning.<model>`` in Redis;
5. from time to time write a checkpoint of the state with the offsets of its inputs, and wait.

Nothing is committed to a consumer group: the checkpoint holds the offsets. After a crash the process goes on
from the last checkpoint and writes what came after it again, byte for byte the same: a learned model takes
the place of its equal. What was announced is not announced again: the change that stands says which intervals
its arms know. The arms of operators stay (`services.learning.arms_update`).

Partitions are assigned by hand and a second instance would write everything twice: run one, and let
it be replaced, never doubled (Recreate in Kubernetes).
"""

import functools

from services.learning import session
from services.runtime import blocking_process, declaration_file
from services.runtime.declaration import learning
from services.runtime.settings import Settings


def run() -> None:
    """Run until SIGINT or SIGTERM."""
    settings = Settings()
    declarations = learning(declaration_file.load_all(settings.models))
    opened = functools.partial(session.opened, settings, declarations)
    blocking_process.run("learning", settings, settings.learning_port, opened)
