"""A Prefect flow that retrains a model: each step is a task that runs its command.

It needs Prefect and the command ``driftline``, which may be installed in another environment. A step of which
a server is away ends with exit code 75 and is tried again; a fault of data, code or declaration is not. A run
of the flow that is started again continues in the same run folder.

``python prefect_flow.py MODEL`` runs it once; ``prefect deploy prefect_flow.py:retraining`` deploys it.
"""

import os
import subprocess
import sys
from typing import Any

from prefect import flow, get_run_logger, runtime, task

STEPS = ("extract", "validate", "train", "evaluate", "gate", "card", "register")
OUTAGE = os.EX_TEMPFAIL
"""Exit code of Driftline's commands when a server is away, see `orchestration.exit_status`."""
RETRIES_MAX = 20
RETRY_SECONDS = 30.0
"""Ten minutes in all: a server that is restarted is back by then."""


class CommandError(RuntimeError):
    """A command of Driftline has failed."""

    def __init__(self, code: int, text: str) -> None:
        """Take its exit code and the text of its standard error."""
        super().__init__(text)
        self.code = code


def is_outage(_task: Any, _run: Any, state: Any) -> bool:
    """Tell whether a task failed because a server is away."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, CommandError) and error.code == OUTAGE


@task(  # type: ignore[untyped-decorator]  # Prefect is not in this environment
    name="driftline",
    task_run_name="{arguments[0]} {arguments[1]}",
    retries=RETRIES_MAX,
    retry_delay_seconds=RETRY_SECONDS,
    retry_condition_fn=is_outage,
)
def driftline(command: str, arguments: list[str]) -> str:
    """Run a command of Driftline, and return the last line of its output; `CommandError` if it fails."""
    found = subprocess.run([command, "retraining", *arguments], capture_output=True, text=True, check=False)  # noqa: S603  # no shell
    lines = found.stdout.splitlines()
    for line in lines:
        get_run_logger().info(line)
    if found.returncode:
        raise CommandError(found.returncode, found.stderr.strip())
    return lines[-1] if lines else ""


@flow(name="driftline-retraining")  # type: ignore[untyped-decorator]  # as above
def retraining(
    model: str, request_id: str = "", command: str = "driftline", retry_seconds: float = RETRY_SECONDS
) -> None:
    """Retrain a model; the service releases the version if its gates have passed.

    Args:
        model: Declared model with a section gates.
        request_id: Its request; default: one for each run of the flow.
        command: Name or path of the command ``driftline``.
        retry_seconds: Time between two attempts while a server is away.
    """
    request_id = request_id or f"{model}-prefect-{runtime.flow_run.id}"
    run_command = driftline.with_options(retry_delay_seconds=retry_seconds)
    folder = run_command(command, ["prepare", model, "--request-id", request_id, "--reason", "Prefect"])
    for step in STEPS:
        run_command(command, ["step", step, "--run", folder])
    run_command(command, ["submit", "--run", folder])


if __name__ == "__main__":
    retraining(*sys.argv[1:])
