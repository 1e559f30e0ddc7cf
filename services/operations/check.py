"""``driftline check``: whether the settings and all declarations are valid, and the servers respond."""

import os
from typing import Annotated

import msgspec
from cyclopts import Parameter

from services.operations import project_check
from services.runtime.command_output import fail, ok, say, warn


def check(
    *,
    connect: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Check the settings, every model and the feature repository; exit with 1 if anything is wrong.

    Every error is reported at once, as file:line:column: text. Nothing is changed, and no training.py is run.

    Args:
        connect: Also check whether Kafka, Redis and MLflow respond.
        json: Print one JSON document.
    """
    found = project_check.examined(os.environ, connect=connect)
    if json:
        say(msgspec.json.encode(found.document()).decode())
        if found.faults:
            raise SystemExit(1)
        return
    for line in found.well:
        ok(line)
    for line in found.warnings:
        warn(line)
    if found.faults:
        fail(*found.faults)
