"""A defect: an error that only a record, or our own code for it, can have caused.

Every consumer isolates the record, writes it to the dead letters with `DeadLetter.kind` ``defect``, and goes
on with its neighbours.
"""

import asyncio
import contextlib
import traceback
from pathlib import Path
from types import TracebackType

ATTEMPTS_MAX = 3
"""Attempts at the same records before an unknown error counts as a defect: a race may not repeat."""
REASON_CHARACTERS_MAX = 500
_ROOT = Path(__file__).parents[1]


class PanicError(RuntimeError):
    """An error that is no `Exception`: a library in Rust panics with such a one."""


_NO_PANICS = (Exception, asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit)


class _PanicsAsErrors:
    """Without the generator of `contextlib`, which costs more than all else that is done around a batch."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, _NO_PANICS):
            raise PanicError(f"{type(error).__name__}: {error}") from error


_PANICS_AS_ERRORS = _PanicsAsErrors()


def panics_as_errors() -> contextlib.AbstractContextManager[None]:
    """Raise `PanicError` instead of an error that is no `Exception`, and that is not meant to end a task.

    Python's own ``except Exception`` lets a panic pass, so that it would end the task or the process.
    """
    return _PANICS_AS_ERRORS


def reason_of(error: BaseException) -> str:
    """Return what happened and where: type and message of the error, and our line that it came through.

    >>> try:
    ...     {}["fare"]
    ... except KeyError as error:
    ...     reason_of(error).split(" at ")[0]
    "defect: KeyError: 'fare'"
    """
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_own(frame.filename)] or list(frames)
    place = f" at {_short(own[-1].filename)}:{own[-1].lineno} in {own[-1].name}" if own else ""
    message = str(error)[:REASON_CHARACTERS_MAX]
    return f"defect: {type(error).__name__}: {message}{place}"


def _is_own(path: str) -> bool:
    file = Path(path)
    return file.is_relative_to(_ROOT) and "site-packages" not in file.parts


def _short(path: str) -> str:
    return str(Path(path).relative_to(_ROOT)) if _is_own(path) else Path(path).name
