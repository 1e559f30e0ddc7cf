"""``driftline init``: a folder for a model of one's own."""

from pathlib import Path

from services.operations import scaffold
from services.operations.scaffold import ScaffoldError
from services.runtime.command_output import fail, say


def init(name: str, *, template: str = "blank") -> None:
    """Make the folder NAME with a model, its features and data to try it, from a template.

    Args:
        name: Name of the model and of the folder: lower case letters, digits and _, a letter first.
        template: payments (fraud, whose labels are rare and late), regression, or blank.
    """
    try:
        folder = scaffold.create(Path(), name, template)
    except ScaffoldError as error:
        fail(f"driftline init: {error}")
    say(f"ok  made {folder.resolve()} from the template {template}", "", "Next:", f"  cd {folder}")
    say("  driftline check", "  less README.md       # the other commands")
