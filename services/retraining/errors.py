"""Errors of a retraining. Each message says what was found and what to do about it."""

import contextlib
from collections.abc import Iterator

from streams.outages import is_outage


class RetrainingError(RuntimeError):
    """A retraining has failed. Its message becomes the reason in `RetrainingFinished`."""


class ArchiveBehindError(RetrainingError):
    """The archive did not reach the offsets of the request in time."""


class InvalidDataError(RetrainingError):
    """The training set is not valid. The message lists each fault with the number of rows."""


@contextlib.contextmanager
def in_training_code() -> Iterator[None]:
    """Let an error of the model's own code fail its retraining, also if its type is that of an outage.

    A file that the code does not find is missing at the next attempt, too.
    """
    try:
        yield
    except Exception as error:
        if is_outage(error):
            raise RetrainingError(f"training.py: {type(error).__name__}: {error}") from error
        raise


def without_gates(model: str) -> str:
    """Return why a model without a section ``gates`` cannot be retrained, and what to do."""
    return f"{model} cannot be retrained: its model.yaml has no section gates; add one"
