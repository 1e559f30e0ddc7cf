"""Versions of one model that did not load, and when each is tried again. Pure; the clock is an argument."""

import dataclasses
from collections.abc import Callable, Iterable

from streams import back_off
from streams.outages import OutageError

FIRST_RETRY_SECONDS = 1.0
"""Time from the first failure to the next attempt; doubled after each further one."""
RETRY_SECONDS_MAX = 30.0
"""Maximum time between two attempts: the registry may have been down."""


class VersionNotLoadedError(OutageError):
    """A version cannot predict now, because it could not be loaded: no request is at fault, so wait.

    ``retry_seconds`` is the time until the next attempt, 0 if it is due.
    """

    def __init__(self, message: str, retry_seconds: float) -> None:
        """Take the reason, with model and version, and the time until the next attempt."""
        super().__init__(message)
        self.retry_seconds = retry_seconds


@dataclasses.dataclass(frozen=True, slots=True)
class _Failure:
    reason: str
    count: int
    due_seconds: float
    """The time of the next attempt, by the clock."""


class LoadFailures:
    """The failed loads of one model, by version."""

    def __init__(self, model: str, clock: Callable[[], float]) -> None:
        """Start without any."""
        self._model = model
        self._clock = clock
        self._failures: dict[int, _Failure] = {}

    def add(self, version: int, error: Exception) -> VersionNotLoadedError:
        """Remember a failed attempt and return its error for the callers."""
        last = self._failures.get(version)
        count = last.count + 1 if last else 1
        wait_seconds = back_off.pause_seconds(count, FIRST_RETRY_SECONDS, RETRY_SECONDS_MAX)
        self._failures[version] = _Failure(str(error) or repr(error), count, self._clock() + wait_seconds)
        return self._error(version)

    def remove(self, version: int) -> None:
        """Forget the failures of a version: it is loaded, or no longer needed."""
        self._failures.pop(version, None)

    def error(self, version: int) -> VersionNotLoadedError | None:
        """Return why a version is not loaded; None if its last attempt did not fail."""
        return self._error(version) if version in self._failures else None

    def clear(self) -> None:
        """Forget all failures, so that each version is tried again at once."""
        self._failures.clear()

    def retry_seconds(self, versions: Iterable[int], default: float | None) -> float | None:
        """Return the time until one of these versions is tried again; ``default`` if none has failed."""
        due = [self._failures[version].due_seconds for version in versions if version in self._failures]
        return max(0.0, min(due) - self._clock()) if due else default

    def _error(self, version: int) -> VersionNotLoadedError:
        failure = self._failures[version]
        return VersionNotLoadedError(
            f"version {version} of {self._model} cannot predict: {failure.reason}",
            max(0.0, failure.due_seconds - self._clock()),
        )
