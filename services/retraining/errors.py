"""What can go wrong in a retraining. Each message says what was found and what to do about it."""


class RetrainingError(RuntimeError):
    """A retraining cannot go on. Its text becomes the reason in `RetrainingFinished`."""


class ArchiveBehindError(RetrainingError):
    """The archive did not reach the offsets of the request in time."""


class InvalidDataError(RetrainingError):
    """The training set is not fit for training. One line for each fault, with the number of rows."""
