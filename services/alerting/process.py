"""The alerting process: sends alarms, retrainings and rollbacks to people. Run one instance.

Delivery, for each message:

1. send it to the destination, and wait until it is accepted;
2. write the notification to the compacted topic ``driftline.alerts``, and wait for the acknowledgement.

So each alert is sent at least once to each destination. It is sent twice only if the process is killed, or
Kafka fails, between the two steps, or if a destination accepts a message without confirming it in time.
Nothing is committed to a consumer group: every start reads the notifications, then the records that are not
too old, and knows again which alerts are open. A second instance would send everything twice.

Alerts older than ``alert_age_hours_max`` are not sent, whether the record is old (the process was down, or is
new) or its event time is (a replay, the demo).
"""

import functools

from services.alerting import session
from services.runtime import blocking_process
from services.runtime.declaration_file import DeclarationFolder
from services.runtime.quarantine import Quarantine
from services.runtime.settings import Settings


def run() -> None:
    """Run until SIGINT or SIGTERM."""
    settings = Settings()
    folder, quarantine = DeclarationFolder(settings.models), Quarantine("alerting")
    blocking_process.run(
        "alerting",
        settings,
        settings.alerting_port,
        functools.partial(session.opened, settings, folder, quarantine),
        is_over=lambda: bool(folder.refresh()),
        detail=quarantine.detail,
    )
