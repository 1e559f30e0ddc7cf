"""Errors of a retraining. Each message says what was found and what to do about it."""


class RetrainingError(RuntimeError):
    """A retraining has failed. Its message becomes the reason in `RetrainingFinished`."""


class ArchiveBehindError(RetrainingError):
    """The archive did not reach the offsets of the request in time."""


class InvalidDataError(RetrainingError):
    """The training set is not valid. The message lists each fault with the number of rows."""
