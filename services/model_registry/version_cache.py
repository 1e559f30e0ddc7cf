"""A cache of versions on this machine's disk, by digest, so that a version is downloaded once."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

from services.model_registry import folder_digest

log = structlog.get_logger()

FOLDER = "models"
INCOMING = ".incoming-"
"""Prefix of folders with downloads that are not verified yet."""

Fetch = Callable[[Path], Path]
"""Downloads a version below an empty folder; returns the folder of its files."""


class TamperedError(RuntimeError):
    """A version's files differ from those that were signed."""


class VersionCache:
    """Folders named by the digests of their contents; the least recently used ones are deleted first.

    Several processes may share it: a folder in use is locked, and a folder appears complete or not at all.
    """

    def __init__(self, home: Path, bytes_max: int) -> None:
        """Keep about ``bytes_max``; a version in use is kept even if it is larger."""
        self._folder = home.resolve() / FOLDER
        self._bytes_max = bytes_max

    @contextlib.contextmanager
    def opened(self, digest: str, fetch: Fetch) -> Iterator[Path]:
        """Yield the folder of this digest, verified, which is kept until the block ends.

        A folder that was changed on the disk is deleted and fetched again. Raises `TamperedError` if the
        fetched files have another digest, and the errors of ``fetch``.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        folder = self._folder / digest
        with contextlib.ExitStack() as stack:
            while not self._lock_intact(folder, stack):
                self._fetch(folder, fetch)
            os.utime(folder)
            yield folder
        with contextlib.suppress(FileNotFoundError):  # another process may delete folders, too
            self._evict()

    def _lock_intact(self, folder: Path, stack: contextlib.ExitStack) -> bool:
        """Lock a folder, then verify it, so that no other process deletes it in between."""
        with contextlib.ExitStack() as locking:
            try:
                locking.enter_context(_locked(folder))
            except FileNotFoundError:
                return False
            if not self._is_intact(folder):
                return False
            stack.push(locking.pop_all())
        return True

    def _is_intact(self, folder: Path) -> bool:
        if not folder.is_dir():
            return False
        try:
            found = folder_digest.digest(folder)
        except (folder_digest.ContentsError, OSError) as error:
            found = str(error)
        if found == folder.name:
            return True
        log.error("version.changed_on_disk", folder=str(folder), found=found)
        shutil.rmtree(folder, ignore_errors=True)
        return False

    def _fetch(self, folder: Path, fetch: Fetch) -> None:
        with tempfile.TemporaryDirectory(prefix=INCOMING, dir=self._folder) as name:
            fetched = fetch(Path(name))
            try:
                found = folder_digest.digest(fetched)
            except folder_digest.ContentsError as error:
                raise TamperedError(str(error)) from error
            if found != folder.name:
                raise TamperedError(
                    f"its files have the digest {found[:12]}, but {folder.name[:12]} was signed"
                )
            try:
                fetched.rename(folder)
            except OSError:
                if not folder.is_dir():
                    raise
                # Another process was faster; its copy has the same digest.

    def _evict(self) -> None:
        cached = [path for path in self._folder.iterdir() if not path.name.startswith(INCOMING)]
        sizes = {path: folder_digest.size_bytes(path) for path in cached}
        excess = sum(sizes.values()) - self._bytes_max
        for path in sorted(cached, key=lambda path: path.stat().st_mtime)[:-1]:
            if excess <= 0:
                return
            with contextlib.suppress(OSError), _locked(path, exclusive=True):
                shutil.rmtree(path)
                excess -= sizes[path]


@contextlib.contextmanager
def _locked(folder: Path, *, exclusive: bool = False) -> Iterator[None]:
    """Lock a folder: shared by its readers, or exclusive; the latter raises OSError if it is locked."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB if exclusive else fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)
