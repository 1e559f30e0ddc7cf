"""The demo's folder: emptied at the start, never with other data in it, never used by two demos."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MARKER = ".driftline-demo"
"""A folder with this file was created by a demo, so the next demo may empty it."""


class FolderError(RuntimeError):
    """The folder cannot be used. The message says why, and what to do."""


@contextmanager
def claim(folder: Path) -> Iterator[int]:
    """Create an empty folder and lock it until the block ends; yield the lock's file descriptor.

    A child process that inherits the descriptor prolongs the lock. After a killed demo, the next one can
    therefore start only when all its processes have ended.

    Files of an earlier demo are deleted first. Raises `FolderError` if the folder contains anything else,
    or if another demo uses it.
    """
    folder = folder.resolve()
    _check(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / MARKER).open("a")
    except OSError as error:
        raise FolderError(
            f"{folder}: cannot be written ({error.strerror}); choose another with --home"
        ) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderError(
                f"another demo uses {folder}: end it, or choose another folder with --home"
            ) from None
        _empty(folder)
        yield handle.fileno()


def _check(folder: Path) -> None:
    if folder.is_file():
        raise FolderError(f"{folder}: is a file; choose a folder with --home")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARKER).is_file():
        raise FolderError(
            f"{folder}: contains data that no demo created; choose an empty or new folder with --home"
        )


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != MARKER:
            path.unlink()
