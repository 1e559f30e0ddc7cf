"""What a step is, and how one is run: skipped if nothing that it reads has changed since it was done.

``<step>.json`` holds the SHA-256 of the inputs and outputs. It is written last, so a step that was killed at
any point is done again. A step therefore repeats its work without harm: it replaces its outputs, and what it
does elsewhere it does once for a request.
"""

import dataclasses
import time
from collections.abc import Callable

import msgspec
import structlog

from services.retraining.errors import RetrainingError
from services.retraining.run_folder import RunFolder
from services.runtime.settings import Settings

_log = structlog.get_logger()

Work = Callable[[RunFolder, Settings], None]


class StepError(RetrainingError):
    """A step cannot be run. The message says which one must be run before."""


@dataclasses.dataclass(frozen=True)
class Step:
    """One step."""

    name: str
    inputs: tuple[str, ...]
    """The files that it reads."""
    outputs: tuple[str, ...]
    """The files that it writes."""
    work: Work
    optional_inputs: tuple[str, ...] = ()
    """Files that it reads if they are there."""

    @property
    def record(self) -> str:
        """The file that says that the step is done."""
        return f"{self.name}.json"


class StepRecord(msgspec.Struct, frozen=True):
    """What a step has read and written."""

    step: str
    inputs: dict[str, str | None]
    """SHA-256 of each file; null: it was absent."""
    outputs: dict[str, str | None]
    seconds: float


def run_step(step: Step, run: RunFolder, settings: Settings) -> bool:
    """Run a step unless it is done; return whether it was run.

    Raises:
        StepError: An input is absent.
        RetrainingError: The step found a fault in its inputs.
    """
    inputs = {name: run.digest(name) for name in (*step.inputs, *step.optional_inputs)}
    if absent := [name for name in step.inputs if inputs[name] is None]:
        raise StepError(
            f"the step {step.name} needs {', '.join(absent)} in {run.path}: run the steps before it first"
        )
    if is_done(step, run, inputs):
        return False
    run.remove(step.record)
    began = time.monotonic()
    step.work(run, settings)
    seconds = round(time.monotonic() - began, 3)
    outputs = {name: run.digest(name) for name in step.outputs}
    run.write(step.record, StepRecord(step.name, inputs, outputs, seconds))
    _log.debug("retraining.step", step=step.name, run=str(run.path), seconds=seconds)
    return True


def is_done(step: Step, run: RunFolder, inputs: dict[str, str | None]) -> bool:
    """Tell whether a step was done with these inputs, and its outputs are unchanged."""
    if not run.has(step.record):
        return False
    try:
        record = run.read(step.record, StepRecord)
    except msgspec.DecodeError:
        return False
    outputs = {name: run.digest(name) for name in step.outputs}
    return record.inputs == inputs and record.outputs == outputs
