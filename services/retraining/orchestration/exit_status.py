"""How a command of a retraining ends: orchestrators read from its exit code whether to try it again."""

import contextlib
import os
import sys
from collections.abc import Iterator

from services.feature_store.plan import PlanError
from services.model_registry.mlflow_client import RegistryError
from services.model_registry.model_inputs import InputsError
from services.model_registry.training_code import TrainingCodeError
from services.retraining.errors import ArchiveBehindError, RetrainingError
from services.runtime.command_output import fail
from services.runtime.declaration import DeclarationError
from streams.outages import is_outage

OUTAGE = os.EX_TEMPFAIL
"""Exit code 75 of ``sysexits.h``: a server or the disk is away, so the same command may succeed later."""
_FAULTS = (RetrainingError, RegistryError, InputsError, TrainingCodeError, PlanError, DeclarationError)


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Turn an error into one line on standard error, with the exit code 75 for an outage and 1 for a fault.

    A defect keeps its stack, and gives 1 as well.
    """
    try:
        yield
    except Exception as error:
        if is_outage(error) or isinstance(error, ArchiveBehindError):
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            raise SystemExit(OUTAGE) from error
        if isinstance(error, _FAULTS):
            fail(str(error))
        raise
