"""The alerting process: alarms, retrainings and rollbacks -> whoever has to know. One per installation.

Delivery, for each message:

1. send it to the destination, and wait until that has taken it;
2. write to the compacted topic ``driftline.alerts`` what was told, and wait for the acknowledgement.

So each alert is told at least once to each destination, and twice only where the process is killed, or
Kafka fails, between the two, or where a destination took a message without saying so in time. Nothing
is committed to a consumer group: every start reads what was told, then the records that are young
enough to matter, and knows again what stands. A second instance would tell everything twice: run one.

Nobody is told of what is older than ``alert_age_hours_max``: of a record that long ago (the process was
down, or is new), or of an event time that long before its record (a replay, a demo).
"""

import functools

from services.alerting import session
from services.runtime import blocking_process, declaration_file
from services.runtime.settings import Settings


def run() -> None:
    """Run until SIGINT or SIGTERM."""
    settings = Settings()
    declarations = declaration_file.load_all(settings.models)
    blocking_process.run(
        "alerting",
        settings,
        settings.alerting_port,
        functools.partial(session.opened, settings, declarations),
    )
