"""``driftline doctor``: whether everything around Driftline is well, and what to do where it is not."""

from typing import Annotated

import msgspec
from cyclopts import Parameter
from pydantic import ValidationError

from services.operations.diagnoses import diagnosed
from services.operations.project_check import invalid_settings
from services.runtime.command_output import fail, say
from services.runtime.settings import Settings


def doctor(*, json: Annotated[bool, Parameter(negative="")] = False) -> None:
    """Look at the servers, the topics, the clock, the disk and the packages; exit with 1 for a problem.

    Each problem has a line that says what to do. Nothing is changed.

    Args:
        json: Print one JSON document.
    """
    try:
        settings = Settings()
    except ValidationError as error:
        fail(*invalid_settings(error))
    found = diagnosed(settings)
    if json:
        parts = [
            {"name": each.name, "ok": each.is_well, "text": each.text, "fix": each.fix} for each in found
        ]
        say(msgspec.json.encode({"ok": all(each.is_well for each in found), "parts": parts}).decode())
    else:
        for each in found:
            say(f"{'ok     ' if each.is_well else 'problem'}  {each.name}: {each.text}")
            if each.fix:
                say(f"         fix: {each.fix}")
    if not all(each.is_well for each in found):
        raise SystemExit(1)
