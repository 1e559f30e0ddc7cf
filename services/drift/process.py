"""The drift process: reads predictions and labels, writes the outputs of `engine`. Any number may run.

The processes share the models (`services.runtime.model_ownership`). Delivery, for each slice that is read:

1. add the records to the engine, then let it advance to the frontier;
2. write outcomes and dead letters, and wait until they are acknowledged;
3. write reports and alarms, and wait; then retraining requests, and wait;
4. publish the watermark ``drift.<model>`` in Redis;
5. when one is due, write a snapshot of the state with the offsets of its inputs, and wait.

The offsets of predictions and labels are not committed to a consumer group: the snapshot contains them, so
state and offsets cannot disagree. After a crash, or after a model has moved to another process, work
continues from the last snapshot, and later outputs are written again, with equal ids and source offsets;
readers drop such repeats (`streams.repeats.RepeatFilter`, ids).
"""

import functools

from services.drift import drift_metrics, session
from services.runtime import blocking_process, declaration_file
from services.runtime.quarantine import Quarantine
from services.runtime.settings import Settings


def run() -> None:
    """Evaluate the models of this worker, until SIGINT or SIGTERM."""
    settings = Settings()
    quarantine = Quarantine("drift")
    folder = declaration_file.DeclarationFolder(settings.models)
    blocking_process.run(
        "drift",
        settings,
        settings.drift_port,
        functools.partial(session.open_session, settings, folder, quarantine),
        detail=lambda: {**quarantine.detail(), **_without_reference()},
    )


def _without_reference() -> dict[str, object]:
    """Return for the readiness which models are watched by their labels alone."""
    models = drift_metrics.without_reference()
    text = "no reference: features, scores, segments and relations are not watched"
    return {"without_reference": dict.fromkeys(models, text)} if models else {}
